"""Regular expressions from data and models, or over their texts, within a limit of time.

Python's own `re` has none: `(a+)+$` does not end on forty letters. Patterns have the syntax of `re`, which checks them;
`regex` runs them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import regex

REGEX_SECONDS: Final = 2.0  # for one pattern on one text; usual ones take microseconds


class RegexTooSlow(RuntimeError):
    """A pattern takes longer than `REGEX_SECONDS` on a text: there is no verdict."""


def regex_search(pattern: str, text: str, flags: int = 0) -> Any:
    """The first match, or None. Raises `re.error` for an invalid pattern, and `RegexTooSlow`, as all functions here."""
    return _run("search", pattern, text, flags)


def regex_fullmatch(pattern: str, text: str, flags: int = 0) -> Any:
    """The match of the whole text, or None."""
    return _run("fullmatch", pattern, text, flags)


def regex_matches(pattern: str, text: str, flags: int = 0) -> list[Any]:
    """All matches, in order."""
    try:
        return list(_compiled(pattern, int(flags)).finditer(text, timeout=REGEX_SECONDS))
    except TimeoutError:
        raise _too_slow(pattern, text) from None


def regex_split(pattern: str, text: str, flags: int = 0) -> list[str]:
    """The text, split at each match."""
    return list(_run("split", pattern, text, flags))


def _run(method: str, pattern: str, text: str, flags: int) -> Any:
    try:
        return getattr(_compiled(pattern, int(flags)), method)(text, timeout=REGEX_SECONDS)
    except TimeoutError:
        raise _too_slow(pattern, text) from None


@lru_cache(maxsize=1024)
def _compiled(pattern: str, flags: int) -> Any:
    re.compile(pattern, flags)
    try:
        return regex.compile(pattern, flags | regex.VERSION0)
    except regex.error as error:
        raise re.error(str(error)) from None


def _too_slow(pattern: str, text: str) -> RegexTooSlow:
    return RegexTooSlow(
        f"the pattern {pattern[:60]!r} takes more than {REGEX_SECONDS:g} s on a text of {len(text)} characters"
    )
