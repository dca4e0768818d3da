"""What a judge's reply says: which of two answers is better, a rating, or a label.

Each reader gives a `Verdict`: the value, and where there is none the reason. The reasoning trace is no part of a reply,
and a trace that is not closed leaves no verdict. Of several verdicts the last one counts. FastChat's own rule, by which
the first one does, is in `parse_rating_fastchat` and `parse_winner_fastchat`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.comparisons import MAX_CHARACTERS, read_comparison
from zhenlong.verify.rating_words import HYPOTHETICAL, RATING_FORMS, SUPPOSED, mark_ratings

FASTCHAT_RATINGS: Final = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
ARENA_PATTERNS: Final = (re.compile(r"\[\[([AB<>=]+)\]\]"), re.compile(r"\[([AB<>=]+)\]"))
GRADED_WINNER: Final = re.compile(r"\[\[\s*([AB])\s*[-:,]?\s*([1-4])\s*\]\]", re.IGNORECASE)
EMPTY: Final = "empty"
UNCLOSED: Final = "reasoning trace not closed"
NO_VERDICT: Final = "no verdict"
STRAIGHT_QUOTES: Final = str.maketrans({"’": "'", "‘": "'", "´": "'", "“": '"', "”": '"'})


@dataclass(frozen=True)
class Verdict:
    """What was read: `value`, or None and the `reason` why there is none."""

    value: Any
    reason: str = ""


VerdictReader = Callable[[str], Verdict]


def read_pair(text: str) -> Verdict:
    """`a` or `b`: which of two outputs is chosen where there is no tie (LLMBar's "Output (a)")."""
    value, reason = _read(text, lambda reply: read_comparison(reply, allow_tie=False))
    return Verdict(None, "calls them equal") if value == "tie" else Verdict(value, reason)


def read_winner(text: str) -> Verdict:
    """`A`, `B` or `tie`, from `[[A]]`, `[[B]]`, `[[C]]` or any other wording."""
    value, reason = _read(text, read_comparison)
    return Verdict(value.upper() if value in ("a", "b") else value, reason)


def read_graded_winner(text: str) -> Verdict:
    """The last `[[A1]]` to `[[B4]]`, as the letter and the strength."""

    def last(reply: str) -> tuple[Any, str]:
        found = GRADED_WINNER.findall(reply)
        return ((found[-1][0].upper(), int(found[-1][1])), "") if found else (None, NO_VERDICT)

    return Verdict(*_read(text, last))


def read_arena_label(text: str, labels: Sequence[str]) -> Verdict:
    """The last label in double brackets, else in single brackets, of the upper-cased text (arena-hard-auto).

    One that is none of `labels`, such as `[[A>=B]]`, is unread; upstream would stop with an error.
    """

    def last(reply: str) -> tuple[Any, str]:
        for pattern in ARENA_PATTERNS:
            if found := pattern.findall(reply.upper()):
                return (found[-1], "") if found[-1] in labels else (None, "unknown label")
        return None, NO_VERDICT

    return Verdict(*_read(text, last))


def read_rating(text: str, min_rating: float = 1, max_rating: float = 10) -> Verdict:
    """The last rating: `[[7]]`, "Rating: 7", "7/10", "7 out of 10", "I give it a 7", or a line that is a number.

    A number outside the scale, a range ("7-8") and a number on another scale ("4/5" of 10) are unread.
    """
    return Verdict(*_read(text, lambda reply: _last_rating(reply, min_rating, max_rating)))


def read_label(text: str, labels: Sequence[str]) -> Verdict:
    """The label that a reply gives: the last one named that is not denied or listed among others.

    A label may be written with its number (`2_full_refusal`, or `2` alone), with spaces or hyphens, in any case.
    """
    return Verdict(*_read(text, lambda reply: _last_label(reply, labels)))


def parse_rating_fastchat(text: str, min_rating: float = 1, max_rating: float = 10) -> float | None:
    """The first `[[x]]`, else the first `[x]` (lm-sys/FastChat:fastchat/llm_judge/common.py).

    A number outside the scale counts as unparsed; upstream would include it in the average.
    """
    reply = strip_reasoning(text)
    for pattern in FASTCHAT_RATINGS:
        if found := pattern.search(reply):
            value = float(found[1])
            return value if min_rating <= value <= max_rating else None
    return None


def parse_winner_fastchat(text: str) -> str | None:
    """`A`, `B` or `tie`: the first of `[[A]]`, `[[B]]`, `[[C]]` that occurs, in this order (FastChat)."""
    reply = strip_reasoning(text)
    letter = next((letter for letter in "ABC" if f"[[{letter}]]" in reply), None)
    return "tie" if letter == "C" else letter


def _read(text: str, reader: Callable[[str], tuple[Any, str]]) -> tuple[Any, str]:
    """The reader's result for the reply without its trace, in plain characters."""
    reply = unicodedata.normalize("NFKC", strip_reasoning(text)).translate(STRAIGHT_QUOTES)
    if not reply.strip():
        return None, UNCLOSED if text.strip() else EMPTY
    return reader(reply)


def _last_rating(reply: str, low: float, high: float) -> tuple[float | None, str]:
    plain = mark_ratings(reply[-MAX_CHARACTERS:])
    for pattern in RATING_FORMS:
        found = [
            match
            for match in pattern.finditer(plain)
            if not HYPOTHETICAL.search(_clause_before(plain, match.start())) and not SUPPOSED.match(plain, match.end())
        ]
        if found:
            last = found[-1]
            value, scale = float(last["value"].replace(",", ".")), last["scale"]
            joined = plain[found[-2].end() : last.start()] if len(found) > 1 else ""
            if last["range"] or re.fullmatch(r"\s*(?:-|–|or|to)\s*", joined):
                return None, "a range"
            if scale and float(scale) != high:
                return None, "on another scale"
            return (value, "") if low <= value <= high else (None, "outside the scale")
    return None, NO_VERDICT


def _clause_before(text: str, place: int) -> str:
    """The words of the same clause before a place."""
    return re.split(r"[.!?;\n]\s", text[max(0, place - 80) : place])[-1]


def _last_label(reply: str, labels: Sequence[str]) -> tuple[str | None, str]:
    plain = re.sub(r"[*`#\"'\\]+", "", reply[-MAX_CHARACTERS:].lower().replace("n't", " not"))
    names = {label: re.sub(r"[ _-]", "[ _-]+", label) for label in labels}
    named = re.compile("|".join(rf"(?P<n{place}>{name})" for place, name in enumerate(names.values())))
    found: list[tuple[str, int, int]] = []
    for match in named.finditer(plain):
        label = labels[int(str(match.lastgroup)[1:])]
        supposed = re.match(r"\s*(?:would|could|might)\b", plain[match.end() : match.end() + 10])
        if not supposed and not _denies(_clause_before(plain, match.start())):
            found.append((label, match.start(), match.end()))
    listed = {
        place
        for place, (one, other) in enumerate(pairwise(found))
        if one[0] != other[0] and re.fullmatch(r"[\s,/|]*(?:or|and)?[\s,/|]*(?:\d[._) ]*)?", plain[one[2] : other[1]])
    }
    kept = [one for place, one in enumerate(found) if place not in listed and place - 1 not in listed]
    if kept:
        return kept[-1][0], ""
    number = re.fullmatch(r"\W*(?:(?:class|label|category|answer|verdict)\W*(?:is\W*)?)?(\d)\W*", plain.strip())
    if number and 1 <= int(number[1]) <= len(labels):
        return labels[int(number[1]) - 1], ""
    return None, "several labels" if found else "every label is denied" if named.search(plain) else "no label"


def _denies(words: str) -> bool:
    """Whether the words before a label say that it is not this one."""
    return (
        re.search(
            r"\b(?:not|never|neither|nor|no|rather than|instead of|than|isnt|hardly|cannot be|(?:may|might|could) "
            r"(?:be|look|seem|appear)|at first)\b(?![^,:]*\b(?:but|so|therefore|it is)\b)[^,:;]*$",
            words,
        )
        is not None
    )
