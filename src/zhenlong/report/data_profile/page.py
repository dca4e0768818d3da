"""The page of a data profile: table, histograms of lengths, examples of near duplicates, bad rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from zhenlong.data.dataset_stats import LengthStats
from zhenlong.report.data_profile.source_profile import SourceProfile
from zhenlong.report.data_profile.table import format_lengths, source_names, statistic_lines
from zhenlong.report.render_page import render_page

MAX_BAD_ROWS: Final = 20  # bad rows listed on the page
WIDTH, HEIGHT = 300.0, 110.0


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram, in SVG units, with the tooltip."""

    x: float
    y: float
    width: float
    height: float
    tooltip: str


@dataclass(frozen=True)
class Histogram:
    """The distribution of one length in one source."""

    title: str
    source: str
    summary: str
    bars: list[Bar]
    low: str
    high: str


def render_profile(profiles: Sequence[SourceProfile], tokenizer: str, near_duplicate_threshold: float) -> str:
    """The page as text."""
    about = [
        f"{len(profiles)} source{'s' * (len(profiles) != 1)}",
        f"near duplicates from {near_duplicate_threshold:g} similarity",
    ]
    return render_page(
        "data_profile.html.j2",
        ("report.css",),
        [],
        title="Data profile",
        about=[*about, f"tokens of {tokenizer}"] if tokenizer else about,
        profiles=list(zip(source_names(profiles), profiles, strict=True)),
        lines=statistic_lines(profiles),
        histograms=[
            one
            for name, profile in zip(source_names(profiles), profiles, strict=True)
            for one in _histograms(name, profile)
        ],
        max_bad_rows=MAX_BAD_ROWS,
        width=WIDTH,
        height=HEIGHT,
    )


def _histograms(name: str, profile: SourceProfile) -> Iterator[Histogram]:
    stats = profile.stats
    for what, characters, tokens in (
        ("prompts", stats.prompt_characters, stats.prompt_tokens),
        ("responses", stats.response_characters, stats.response_tokens),
    ):
        lengths, unit = (tokens, "tokens") if tokens is not None else (characters, "characters")
        if lengths is not None:
            yield _histogram(f"{unit.capitalize()} of {what}", name, lengths)
    if stats.turns is not None:
        yield _histogram("Turns", name, stats.turns)


def _histogram(title: str, source: str, lengths: LengthStats) -> Histogram:
    max_count = max(count for _, _, count in lengths.histogram)
    axis_end = lengths.histogram[-1][1]
    bars = []
    for place, (start, end, count) in enumerate(lengths.histogram):
        height = HEIGHT * count / max_count
        last = place == len(lengths.histogram) - 1
        ends = f"{start:,.0f}" if end - start == 1 else f"{start:,.0f} to {end:,.0f}"
        tooltip = f"{ends}{' and more' if last and lengths.maximum >= end else ''}: {count:,}"
        bars.append(
            Bar(
                WIDTH * start / axis_end,
                HEIGHT - height,
                max(1.0, WIDTH * (end - start) / axis_end - 1),
                height,
                tooltip,
            )
        )
    return Histogram(
        title,
        source,
        format_lengths(lengths),
        bars,
        "0",
        f"{axis_end - 1:,.0f}{'+' if lengths.maximum >= axis_end else ''}",
    )
