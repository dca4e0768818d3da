"""The measures of a data set as rows of text, one column a source; the terminal's table and the page's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zhenlong.data.portrait import Lengths

if TYPE_CHECKING:
    from zhenlong.report.data_profile.command import Profile

NONE: Final = "–"
LANGUAGES: Final = 4


@dataclass(frozen=True)
class Line:
    """One measure: its name, what it says, and each source's value."""

    name: str
    about: str
    cells: tuple[str, ...]


def table_of(profiles: Sequence[Profile]) -> Table:
    """The terminal's table."""
    table = Table(title="Data", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in names_of(profiles):
        table.add_column(name, justify="right", overflow="fold")
    for line in lines_of(profiles):
        table.add_row(line.name, *line.cells)
    return table


def names_of(profiles: Sequence[Profile]) -> list[str]:
    """What to call the sources: files without their folders, unless two would then be called the same."""
    short = [one.source.rsplit("/", 1)[-1] for one in profiles]
    return short if len(set(short)) == len(short) else [one.source for one in profiles]


def lines_of(profiles: Sequence[Profile]) -> list[Line]:
    """Every measure that one of the sources has."""
    lines = [Line(name, about, tuple(cell(one) for one in profiles)) for name, about, cell in _MEASURES]
    return [line for line in lines if any(value != NONE for value in line.cells)]


def spread(found: Lengths | None) -> str:
    """Median, and the range that holds the middle 80 %."""
    return (
        NONE if found is None else f"{found.median:,.0f} ({found.p10:,.0f}–{found.p90:,.0f}, at most {found.longest:,})"
    )


def share(value: float | None) -> str:
    """A share in per cent."""
    return NONE if value is None else f"{100 * value:.1f} %"


def _copies(name: str) -> Callable[[Profile], str]:
    def cell(one: Profile) -> str:
        count = getattr(one.portrait.copies, name)
        return f"{count:,} ({share(count / one.portrait.records)})"

    return cell


def _form(name: str) -> Callable[[Profile], str]:
    return lambda one: NONE if one.portrait.form is None else share(getattr(one.portrait.form, name))


def _gap(one: Profile) -> str:
    found = one.portrait.preferred
    if found is None:
        return NONE
    tokens = "" if found.gap_tokens is None else f", {found.gap_tokens:+,.1f} tokens"
    words = f"{found.gap_words:+,.1f} words (median {found.median_gap_words:+,.0f})"
    return f"{words}, {found.gap_characters:+,.0f} characters{tokens}"


def _languages(one: Profile) -> str:
    named = [f"{name} {share(value)}" for name, value in one.sampled.languages[:LANGUAGES]]
    more = len(one.sampled.languages) - LANGUAGES
    return ", ".join(named) + (f", {more} more" if more > 0 else "") or NONE


def _toxicity(one: Profile) -> str:
    found = one.sampled
    return NONE if found.toxicity is None else f"{share(found.toxic)} toxic, mean {found.toxicity:.3f}"


def _pairs(one: Profile) -> str:
    return NONE if one.portrait.preferred is None else f"{one.portrait.preferred.pairs:,}"


def _longer(one: Profile) -> str:
    return NONE if one.portrait.preferred is None else share(one.portrait.preferred.longer_wins)


_MEASURES: Final[tuple[tuple[str, str, Callable[[Profile], str]], ...]] = (
    ("read as", "the kind of record", lambda one: one.portrait.kind),
    ("rows", "rows of the source", lambda one: f"{one.rows:,}"),
    ("rows left out", "rows that could not be read", lambda one: f"{len(one.bad):,}"),
    ("records", "a tree gives several, a row mostly one", lambda one: f"{one.portrait.records:,}"),
    ("turns", "of users, assistants and tools", lambda one: spread(one.portrait.turns)),
    ("prompt characters", "all before the last response", lambda one: spread(one.portrait.prompt_characters)),
    ("prompt tokens", "by the tokenizer named", lambda one: spread(one.portrait.prompt_tokens)),
    ("response characters", "every response on its own", lambda one: spread(one.portrait.response_characters)),
    ("response tokens", "by the tokenizer named", lambda one: spread(one.portrait.response_tokens)),
    ("responses with a list", "two items or more", _form("lists")),
    ("responses with a heading", "Markdown's", _form("headings")),
    ("responses with code", "fenced", _form("code")),
    ("words", "of prompts and responses", lambda one: f"{one.portrait.words:,}"),
    ("different words", "in lower case", lambda one: f"{one.portrait.vocabulary:,}"),
    ("copies", "records of the same words as an earlier one", _copies("exact")),
    ("near copies", "records much like an earlier one, copies included", _copies("near")),
    ("repeated prompts", "prompts of the same words as an earlier one", _copies("prompts")),
    ("toxicity", "of a sample of responses", _toxicity),
    ("language", "of the same sample", _languages),
    ("desirable", "ratings with the thumb up", lambda one: share(one.portrait.desirable)),
    ("pairs", "that the rankings make", _pairs),
    ("chosen is longer by", "mean over pairs", _gap),
    ("won by the longer", "pairs whose longer response was chosen; of equal length: half", _longer),
)  # fmt: skip
