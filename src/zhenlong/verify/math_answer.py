r"""The final answer of a worked solution, as it is written; `math_notation` compares it.

The answer is what is stated last: the number after GSM8K's `####`, or the last `\boxed{}` (several joined by "and" are
a list). Without either it is what "the answer is" says, or the whole text where that is only an expression. A `####`
before anything but a number is a heading. Anything else is no answer.
"""

from __future__ import annotations

import re
from typing import Final

from zhenlong.verify.answer_text import plain_characters
from zhenlong.verify.final_answer import matched_braces

MAX_SOLUTION_LENGTH: Final = 20_000  # of a solution that are read, from its end
_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s{0,4}(?=\{)|\\(?:boxed|fbox) +(?=[^\s{])")
_MARKED_NUMBER: Final = re.compile(r"####[ \t]*((?:\\?\$)?[-+]?(?:\\?\$)?\.?\d[^\n]{0,200})")
_HEADING: Final = re.compile(r"[-+\d.,$\\]*(?:[.):](?=\s|$)\s*[^\W\d]|[ \t]+[A-Z])")  # "4. Check", "2 Cases"
_STATED: Final = re.compile(  # a second statement may stand in what follows the first
    r"(?:\b(?:answers?|result|solution)\b[\"']?[^\n.:=]{0,60}?(?:\bis\b|\bare\b|\bequals\b|\bbe\b|:|=)|"
    r"(?:答案|结果)(?:应?(?:是|为)|:)|(?m:^[ \t*]*答[ \t*]*:))[ \t*_:]*(?:\n\s*)?(?:(?:\\\[|\$\$)\s*)?"
    r"(?=([^\n]{1,300}))",
    re.IGNORECASE,
)
_TITLE: Final = re.compile(
    r"(?:^|\n)[#*_ \t]*(?:final )?answer[*_: \t]*\n\s*(?:(?:\\\[|\$\$)\s*)?([^\n]{1,300})", re.IGNORECASE
)
_TAGGED: Final = re.compile(r"<(answer|final_answer|ans)>\s*([^<>]{1,300}?)\s*</\1>", re.IGNORECASE)
_DENIED: Final = re.compile(r"(?:not|never|n't|不)\b")
_NUMBER_OF_THINGS: Final = re.compile(
    r"[-+]?\\?\$?\d[\d,]*(?:\.\d+)?"
    r"(?: (?!(?:is|are|was|and|or|to|plus|minus|times|of|if|but|not|so)\b)[A-Za-z]+){1,2}[.!]?"
)
_ASIDE: Final = re.compile(r",\s+(?:not|and|so|which|because|since|but|as|that|where|when|with)\b|\s\((?=[a-z]{3})")
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s+[A-Z(]|\s*$)|。")
_JOINED: Final = re.compile(r"[\s$.]*(?:,|;|and|or|\\text\{ ?(?:and|or) ?\})[\s$]*(?:[A-Za-z](?:_\d)?\s*=)?[\s$]*")
_WORDS: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")


def read_math(content: str) -> str | None:
    """The final answer of a solution (without its reasoning trace), as it is written; None if none is stated."""
    text = plain_characters(content)[-MAX_SOLUTION_LENGTH:].replace("−", "-")
    boxes = list(_BOX.finditer(text))
    numbers = [one for one in _MARKED_NUMBER.finditer(text) if not _HEADING.match(one[1])]
    if numbers and (not boxes or numbers[-1].start() > boxes[-1].start()):
        return numbers[-1][1].strip()
    if boxes:
        return _last_boxes(text, boxes)
    tagged = list(_TAGGED.finditer(text))
    if tagged:
        return _clause(tagged[-1][2])
    found = [one for one in (*_STATED.finditer(text), *_TITLE.finditer(text)) if not _DENIED.match(one[1])]
    stated = max(found, key=lambda one: one.start(1), default=None)
    if stated is not None:
        return _clause(stated[1])
    whole = text.strip()
    short = "\n" not in whole and 0 < len(whole) < 200
    return _clause(whole) if short and (_is_expression(whole) or _NUMBER_OF_THINGS.fullmatch(whole)) else None


def joined_boxes(text: str) -> str | None:
    """The last box, with those before it that "and", "or" or a comma join to it; None where there is none."""
    boxes = list(_BOX.finditer(text))
    return _last_boxes(text, boxes) if boxes else None


def _last_boxes(text: str, boxes: list[re.Match[str]]) -> str | None:
    """The last box, with those before it that "and", "or" or a comma join to it."""
    found: list[str] = []
    following = -1
    for box in reversed(boxes):
        rest = text[box.end() :]
        content = matched_braces(rest) if rest.startswith("{") else re.split(r"[$\n]", rest)[0]
        if content is None:
            return ", ".join(reversed(found)) if found else None
        end = box.end() + len(content) + (2 if rest.startswith("{") else 0)
        if found and not (end <= following and following - end < 60 and _JOINED.fullmatch(text[end:following])):
            break
        found.append(content)
        following = box.start()
        if len(found) == 20:
            break
    return ", ".join(reversed(found))


def _clause(text: str) -> str | None:
    """The first sentence of a statement, without emphasis; None where it holds no mathematics."""
    text = re.sub(r"\*\*|__|`", "", text).strip()
    text = _SENTENCE_END.split(text)[0].strip().strip("\"'").strip()
    text = _ASIDE.split(text)[0].strip()
    return text if re.search(r"[\d\\$=(\[]|^[A-Za-z]$|^[A-Za-z]\W", text) else None


def _is_expression(text: str) -> bool:
    return not _WORDS.search(re.sub(r"\\[A-Za-z]+(?:\{[A-Za-z/ ]+\})?", "", text))
