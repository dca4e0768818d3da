"""The profile of data sets as one page: the table, lengths as histograms, near copies to look at, rows left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zhenlong.data.portrait import Lengths
from zhenlong.report.data_profile.table import lines_of, names_of, spread
from zhenlong.report.shell import rendered

if TYPE_CHECKING:
    from zhenlong.report.data_profile.command import Profile

BAD: Final = 20  # rows left out that the page lists
WIDTH, HEIGHT = 300.0, 110.0


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram, in the drawing's own units; `says` is told where the pointer rests."""

    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class Histogram:
    """How one length is distributed in one source."""

    title: str
    source: str
    says: str
    bars: list[Bar]
    low: str
    high: str


def page_of(profiles: Sequence[Profile], tokenizer: str, similar: float) -> str:
    """The page as text."""
    about = [f"{len(profiles)} source{'s' * (len(profiles) != 1)}", f"near copies from {similar:g} similar"]
    return rendered(
        "data_profile.html.j2",
        ("report.css",),
        [],
        title="Data profile",
        about=[*about, f"tokens of {tokenizer}"] if tokenizer else about,
        profiles=list(zip(names_of(profiles), profiles, strict=True)),
        lines=lines_of(profiles),
        histograms=[
            one
            for name, profile in zip(names_of(profiles), profiles, strict=True)
            for one in _histograms(name, profile)
        ],
        bad=BAD,
        width=WIDTH,
        height=HEIGHT,
    )


def _histograms(name: str, one: Profile) -> Iterator[Histogram]:
    found = one.portrait
    for what, characters, tokens in (
        ("prompts", found.prompt_characters, found.prompt_tokens),
        ("responses", found.response_characters, found.response_tokens),
    ):
        chosen, unit = (tokens, "tokens") if tokens is not None else (characters, "characters")
        if chosen is not None:
            yield _histogram(f"{unit.capitalize()} of {what}", name, chosen)
    if found.turns is not None:
        yield _histogram("Turns", name, found.turns)


def _histogram(title: str, source: str, found: Lengths) -> Histogram:
    most = max(count for _, _, count in found.histogram)
    top = found.histogram[-1][1]
    bars = []
    for place, (start, end, count) in enumerate(found.histogram):
        height = HEIGHT * count / most
        last = place == len(found.histogram) - 1
        ends = f"{start:,.0f}" if end - start == 1 else f"{start:,.0f} to {end:,.0f}"
        says = f"{ends}{' and more' if last and found.longest >= end else ''}: {count:,}"
        bars.append(Bar(WIDTH * start / top, HEIGHT - height, max(1.0, WIDTH * (end - start) / top - 1), height, says))
    return Histogram(title, source, spread(found), bars, "0", f"{top - 1:,.0f}{'+' if found.longest >= top else ''}")
