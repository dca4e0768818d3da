"""Argument types of the benchmark commands; an invalid value is a one-line error."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path


def subset_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A comma-separated subset of the known names."""

    def chosen(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(known):
            raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {','.join(sorted(unknown))}")
        return given

    return chosen


def positive_int(text: str) -> int:
    """An integer above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected an integer above 0, got {text}")
    return int(text)


def optional_path(text: str) -> Path | None:
    """A page whose table is updated; empty: none."""
    return Path(text) if text else None
