"""The statistics of data sets as rows of text, one column per source, for terminal and page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zhenlong.data.dataset_stats import LengthStats
from zhenlong.report.data_profile.source_profile import SourceProfile
from zhenlong.report.labels import MISSING_TEXT

MAX_LANGUAGES: Final = 4


@dataclass(frozen=True)
class StatisticLine:
    """One statistic: its name, its description, and each source's value."""

    name: str
    description: str
    cells: tuple[str, ...]


def profile_table(profiles: Sequence[SourceProfile]) -> Table:
    """The table for the terminal."""
    table = Table(title="Data", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in source_names(profiles):
        table.add_column(name, justify="right", overflow="fold")
    for line in statistic_lines(profiles):
        table.add_row(line.name, *line.cells)
    return table


def source_names(profiles: Sequence[SourceProfile]) -> list[str]:
    """Display names of the sources: file names without folders, unless two would be equal."""
    short = [one.source.rsplit("/", 1)[-1] for one in profiles]
    return short if len(set(short)) == len(short) else [one.source for one in profiles]


def statistic_lines(profiles: Sequence[SourceProfile]) -> list[StatisticLine]:
    """Every statistic that at least one source has."""
    lines = [StatisticLine(name, about, tuple(cell(one) for one in profiles)) for name, about, cell in _STATISTICS]
    return [line for line in lines if any(value != MISSING_TEXT for value in line.cells)]


def format_lengths(lengths: LengthStats | None) -> str:
    """Median, 10th and 90th percentile, and maximum."""
    return (
        MISSING_TEXT
        if lengths is None
        else f"{lengths.median:,.0f} ({lengths.p10:,.0f}–{lengths.p90:,.0f}, at most {lengths.maximum:,})"
    )


def format_fraction(value: float | None) -> str:
    """A fraction in per cent."""
    return MISSING_TEXT if value is None else f"{100 * value:.1f} %"


def _duplicates_cell(name: str) -> Callable[[SourceProfile], str]:
    def cell(one: SourceProfile) -> str:
        count = getattr(one.stats.duplicates, name)
        return f"{count:,} ({format_fraction(count / one.stats.records)})"

    return cell


def _markup_cell(name: str) -> Callable[[SourceProfile], str]:
    return lambda one: MISSING_TEXT if one.stats.format is None else format_fraction(getattr(one.stats.format, name))


def _length_gap_cell(one: SourceProfile) -> str:
    found = one.stats.preference
    if found is None:
        return MISSING_TEXT
    tokens = "" if found.length_gap_tokens is None else f", {found.length_gap_tokens:+,.1f} tokens"
    words = f"{found.length_gap_words:+,.1f} words (median {found.median_length_gap_words:+,.0f})"
    return f"{words}, {found.length_gap_characters:+,.0f} characters{tokens}"


def _languages_cell(one: SourceProfile) -> str:
    named = [f"{name} {format_fraction(value)}" for name, value in one.sample_stats.languages[:MAX_LANGUAGES]]
    more = len(one.sample_stats.languages) - MAX_LANGUAGES
    return ", ".join(named) + (f", {more} more" if more > 0 else "") or MISSING_TEXT


def _toxicity_cell(one: SourceProfile) -> str:
    found = one.sample_stats
    return (
        MISSING_TEXT
        if found.mean_toxicity is None
        else f"{format_fraction(found.toxic_fraction)} toxic, mean {found.mean_toxicity:.3f}"
    )


def _pairs_cell(one: SourceProfile) -> str:
    return MISSING_TEXT if one.stats.preference is None else f"{one.stats.preference.pairs:,}"


def _longer_chosen_cell(one: SourceProfile) -> str:
    return MISSING_TEXT if one.stats.preference is None else format_fraction(one.stats.preference.longer_win_rate)


_STATISTICS: Final[tuple[tuple[str, str, Callable[[SourceProfile], str]], ...]] = (
    ("read as", "the type of record", lambda one: one.stats.kind),
    ("rows", "rows of the source", lambda one: f"{one.rows:,}"),
    ("bad rows", "rows that could not be read", lambda one: f"{len(one.bad_rows):,}"),
    ("records", "a tree gives several, a row usually one", lambda one: f"{one.stats.records:,}"),
    ("turns", "of users, assistants and tools", lambda one: format_lengths(one.stats.turns)),
    ("prompt characters", "all before the last response", lambda one: format_lengths(one.stats.prompt_characters)),
    ("prompt tokens", "by the tokenizer named", lambda one: format_lengths(one.stats.prompt_tokens)),
    ("response characters", "of each response", lambda one: format_lengths(one.stats.response_characters)),
    ("response tokens", "by the tokenizer named", lambda one: format_lengths(one.stats.response_tokens)),
    ("responses with a list", "two items or more", _markup_cell("list_fraction")),
    ("responses with a heading", "Markdown's", _markup_cell("heading_fraction")),
    ("responses with code", "fenced", _markup_cell("code_fraction")),
    ("words", "of prompts and responses", lambda one: f"{one.stats.word_count:,}"),
    ("distinct words", "lower-cased", lambda one: f"{one.stats.vocab_size:,}"),
    ("exact duplicates", "records with the same words as an earlier one", _duplicates_cell("exact")),
    ("near duplicates", "records similar to an earlier one, exact duplicates included", _duplicates_cell("near")),
    ("duplicate prompts", "prompts with the same words as an earlier one", _duplicates_cell("repeated_prompts")),
    ("toxicity", "of a sample of responses", _toxicity_cell),
    ("language", "of the same sample", _languages_cell),
    ("desirable", "ratings labelled desirable", lambda one: format_fraction(one.stats.desirable_fraction)),
    ("pairs", "of the rankings", _pairs_cell),
    ("chosen minus rejected length", "mean over pairs", _length_gap_cell),
    ("longer response chosen", "fraction of pairs; equal lengths count half", _longer_chosen_cell),
)  # fmt: skip
