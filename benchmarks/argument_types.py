"""Types of the commands' options: a value that is none of them is told in a line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path


def subset_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Some of the known words, with commas."""

    def chosen(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(known):
            raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {','.join(sorted(unknown))}")
        return given

    return chosen


def positive_int(text: str) -> int:
    """How many there are of something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return int(text)


def optional_path(text: str) -> Path | None:
    """A page whose table is renewed; empty for none."""
    return Path(text) if text else None
