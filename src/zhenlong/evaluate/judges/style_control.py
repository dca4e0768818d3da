"""Style features of a response (length, Markdown) and their difference between two responses (arena-hard-auto)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zhenlong.evaluate.statistics.bootstrap import FloatArray

CODE: Final = re.compile(r"```([^`]*)```")
HEADERS: Final = re.compile(r"^#{1,6}\s", re.MULTILINE)
LISTS: Final = (re.compile(r"^\s*\d+\.\s", re.MULTILINE), re.compile(r"^\s*[-*+]\s", re.MULTILINE))
BOLD: Final = (re.compile(r"\*\*[^*\n]+\*\*"), re.compile(r"__[^_\n]+__"))
PIECES: Final = re.compile(r"\w+|[^\w\s]")

FEATURES: Final = ("length", "headers", "lists", "bold")
CONTROLS: Final = {"style": (0, 1, 2, 3), "length": (0,), "markdown": (1, 2, 3)}  # features that each control uses


@dataclass(frozen=True)
class Style:
    """Counts of one response. `length` counts words and punctuation marks (upstream: tokens by tiktoken)."""

    length: int
    headers: int
    lists: int
    bold: int


def measure_style(answer: str) -> Style:
    """The counts of a response; fenced code counts towards length but not towards Markdown."""
    prose = CODE.sub("", answer)
    return Style(
        len(PIECES.findall(answer)),
        len(HEADERS.findall(prose)),
        sum(len(pattern.findall(prose)) for pattern in LISTS),
        sum(len(pattern.findall(prose)) for pattern in BOLD),
    )


def difference_of_counts(model: Style, baseline: Style) -> tuple[float, ...]:
    """(a - b) / (a + b + 1) of each count (Arena-Hard v0.1)."""
    pairs = [(getattr(model, name), getattr(baseline, name)) for name in FEATURES]
    return tuple((a - b) / (a + b + 1) for a, b in pairs)


def difference_of_densities(model: Style, baseline: Style) -> tuple[float, ...]:
    """(a - b) / (a + b) of the lengths, (d - e) / (d + e + 1) of the counts per length + 1 (Arena-Hard v2)."""
    total = model.length + baseline.length
    found = [(model.length - baseline.length) / total if total else 0.0]
    for name in FEATURES[1:]:
        d, e = getattr(model, name) / (model.length + 1), getattr(baseline, name) / (baseline.length + 1)
        found.append((d - e) / (d + e + 1))
    return tuple(found)


def standardize_features(
    rows: Sequence[tuple[float, ...]], weights: Sequence[float], control: str, *, center: bool, ddof: int = 0
) -> FloatArray:
    """The controlled features in units of their standard deviation [G, F]; a feature that never differs is 0.

    A row of weight 3 counts as three rows.

    `centred` also subtracts the mean, as upstream does over the battles of all its models. Do not centre the battles of
    a single model: its mean style would be absorbed by its strength, and nothing would be controlled.
    """
    values = np.asarray(rows, dtype=np.float64)[:, list(CONTROLS[control])]
    counts = np.asarray(weights, dtype=np.float64)
    mean = np.average(values, axis=0, weights=counts)
    std = np.sqrt(counts @ (values - mean) ** 2 / max(counts.sum() - ddof, 1.0))
    values = values - mean if center else values
    return np.divide(values, std, out=np.zeros_like(values), where=std > 1e-12)
