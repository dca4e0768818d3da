"""The forms in which judges write a rating, as patterns of lower-case text without Markdown."""

from __future__ import annotations

import re
from typing import Final

_NUMBERS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORD: Final = rf"(?P<word>{'|'.join(_NUMBERS)})"
_NAME: Final = (
    r"(?:(?<![a-z])(?:(?:rating|score|grade|points|marks?|verdict)(?![a-z])|(?:overall|total)(?=\s*:))|"
    r"评分|得分|分数|打分)[\"']?"
    r"(?:\s+(?:for|of|to|i|i'd|would|give|my|the|this|that|answer|response|output|assistant|assistant's|it|final|"
    r"overall))"
    r"{0,6}\s*(?:\([^)]*\)\s*)?(?:[:=：,]|->|→|\b(?:is|of|as|be|will|would|a)\b|为|是|\s|- |[⭐★])*"
)
_SCALE: Final = r"\s*(?:(?:points?|stars?|marks?)\s+)?(?:/|out of|of)\s*‹?(?P<scale>\d+)(?:\.0)?(?!\d)"
_VALUE: Final = (
    r"\s*(?P<value>-?\d+(?:[.,]\d+)?)(?!\d|e\d)(?P<range>\s*›?\s*(?:-|–|~|\bto\b|\bor\b|至|到)\s*‹?\d+(?:\.\d+)?)?\s*›?"
)
RATING_FORMS: Final = (  # the first form that occurs decides, and of this form the last place
    re.compile(rf"(?:{_NAME}[‹\[{{(<]?|‹){_VALUE}(?:{_SCALE}(?!\s+the\b))?"),
    re.compile(rf"(?<![\d./]){_VALUE}{_SCALE}"),
    re.compile(rf"\b(?:rate|give|grade|score|assign|award)s?\b[^.\n\d]{{0,40}}{_VALUE}(?:{_SCALE})?"),
    re.compile(
        r"(?:\b(?:deserves?|earns?|gets?|merits?|i'd say|i would say|it's|it is|this is)\s+"
        r"(?:(?:it's|it is|about|at least)\s+)?(?:an?\s+)?|"
        rf"(?:给|打)(?:它|出|了|其|这个回答|\s){{0,3}}){_VALUE}(?:{_SCALE})?"
        r"(?=\s*(?:[.,;!\n。，；]|$|分|from me|for this|overall))"
    ),
    re.compile(rf"\ba (?:solid|strong|clear|weak|high|low|full){_VALUE}(?:{_SCALE})?"),
    re.compile(rf"(?m:^[^\w\n‹-]*{_VALUE}(?:{_SCALE})?\s*分?[^\w\n]*$)"),
)
SUPPOSED: Final = re.compile(r"\s*(?:would|could|might)\b")  # after a rating: "a score of 10 would need sources"
_ON_A_SCALE: Final = re.compile(
    r"\b(?:on|using) (?:a|the) scale (?:of|from) \d+(?:\s*(?:to|-|–)\s*\d+)?,?", re.IGNORECASE
)
HYPOTHETICAL: Final = re.compile(
    r"\b(?:first (?:thought|gave)|at first|initially|perfect|ideal|"
    r"would be|would (?:get|deserve|need|have)|could be|could have|maximum|highest|lowest|from|"
    r"between|"
    r"such as|for example|e\.g\.?|scale|not|n't|if|instead of|rather than)(?![a-z])[^,:]*$"
)


def mark_ratings(text: str) -> str:
    """The text in lower case, `[[7]]` as ‹7›, "rating: seven" and "seven out of ten" in digits, without Markdown."""
    text = re.sub(r"<(rating|score|answer)>\s*([^<]{1,12}?)\s*</\1>", r"[[\2]]", text, flags=re.IGNORECASE)
    text = re.sub(r"\\boxed\{\s*([^{}]{1,12}?)\s*\}", r"[[\1]]", text)
    text = re.sub(r"(?<=[A-Za-z])_(?=[A-Za-z])", " ", text)
    text = re.sub(r"\[\[\s*(?:rating|score)\s*:?\s*([^\[\]]{1,12})\]\]", r"[[\1]]", text, flags=re.IGNORECASE)
    text = re.sub(r"\d+(?:\s*[-+]\s*\d+){1,9}\s*=\s*(?=\d)", "", text)  # "10 - 3 = 7"
    text = _ON_A_SCALE.sub(" ", text)
    if (whole := text.strip().strip(".!*").lower()) in _NUMBERS:
        return str(_NUMBERS.index(whole))
    plain = re.sub(r"\[\[\s*([^\[\]]*?)\s*\]\]", r"‹\1›", re.sub(r"[*_`#]+", "", text.lower()))
    plain = re.sub(rf"(‹|{_NAME})\b{_WORD}\b", lambda match: f"{match[1]}{_NUMBERS.index(match['word'])}", plain)
    plain = re.sub(rf"\b{_WORD}(?=\s*(?:/|out of)\s*\w)", lambda match: str(_NUMBERS.index(match["word"])), plain)
    return re.sub(rf"(?<=out of )\b{_WORD}\b", lambda match: str(_NUMBERS.index(match["word"])), plain)
