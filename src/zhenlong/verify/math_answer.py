r"""The final answer of a worked solution, and the comparisons that math-verify gets wrong.

The answer is what is stated last: the number after GSM8K's `####`, or the last `\boxed{}` (several joined by "and" are
a list). Without either it is what "the answer is" says, or the whole text where that is only an expression. A `####`
before anything but a number is a heading. Anything else is no answer.

`same_notation` and `as_intervals` decide what math-verify gets wrong: bases (2516_8 is not 2516_9), intervals written
as inequalities, single letters by their case, |x| against the root of x squared, the empty set.
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
_STATED: Final = re.compile(
    r"(?:\b(?:answers?|result|solution)\b[^\n.:=]{0,60}?(?:\bis\b|\bare\b|\bequals\b|\bbe\b|:|=)|答案(?:应?(?:是|为)|:)|故答案为:?)"
    r"[ \t*_:]*(?:\n\s*)?([^\n]{1,300})",
    re.IGNORECASE,
)
_TITLE: Final = re.compile(r"(?:^|\n)[#*_ \t]*(?:final )?answer[*_: \t]*\n\s*([^\n]{1,300})", re.IGNORECASE)
_ASIDE: Final = re.compile(r",\s+(?:and|so|which|because|since|but|as|that|where|when|with)\b|\s\((?=[a-z]{3})")
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s+[A-Z(]|\s*$)|。")
_JOINED: Final = re.compile(r"[\s$.]*(?:,|;|and|or|\\text\{ ?(?:and|or) ?\})[\s$]*(?:[A-Za-z](?:_\d)?\s*=)?[\s$]*")
_WORDS: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_BASE: Final = re.compile(r"([0-9A-Fa-f]+)_\{?(?:\\text\{)?([0-9]{1,2})\}*")
_UNIT: Final = re.compile(
    r"(?<=[\d})])(?:~|\\[,;:! ]|\s)*\\(?:text|textrm|mathrm|mbox)\s?\{[^{}]{1,40}\}(?:\^\{?\d\}?)?\.?$"
)
_REPEATING: Final = re.compile(r"(\d+)\.(\d*)\\(?:overline|bar)\s?\{?(\d+)\}?")
_EMPTY_SET: Final = re.compile(r"\\(?:varnothing|emptyset)|∅|\\\{\s*\\\}")
_LETTERS: Final = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\s?\{)?\(?([A-Za-z])\)?\}?")
_ABSOLUTE: Final = re.compile(r"\||\\[lr]?vert|\\mid")
_SIGNS: Final = {"<": "<", ">": ">", "\\le": "<=", "\\leq": "<=", "≤": "<=", "\\ge": ">=", "\\geq": ">=", "≥": ">="}
_SIGN: Final = re.compile(r"\\leq?(?![a-z])|\\geq?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=?|>=?|≤|≥")
_INTERVAL: Final = re.compile(r"([(\[])([^,;()\[\]]{1,80}(?:\([^()]{0,80}\)[^,;()\[\]]{0,80})?)[,;](.{1,80})([)\]])")
_UNION: Final = re.compile(r"\\cup(?![a-z])|∪|\\text\s?\{\s*or\s*\}|\s+or\s+|\\lor(?![a-z])")
_SCIENTIFIC: Final = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})")
_MINUS_INFINITY, _INFINITY = "-\\infty", "\\infty"

NumberRange = tuple[str, str, str, str]  # "(" or "[", the ends, ")" or "]"


def read_math(content: str) -> str | None:
    """The final answer of a solution (without its reasoning trace), as it is written; None if none is stated."""
    text = plain_characters(content)[-MAX_SOLUTION_LENGTH:].replace("−", "-")
    boxes = list(_BOX.finditer(text))
    numbers = [one for one in _MARKED_NUMBER.finditer(text) if not _HEADING.match(one[1])]
    if numbers and (not boxes or numbers[-1].start() > boxes[-1].start()):
        return numbers[-1][1].strip()
    if boxes:
        return _last_boxes(text, boxes)
    stated = max((*_STATED.finditer(text), *_TITLE.finditer(text)), key=lambda one: one.start(1), default=None)
    if stated is not None:
        return _clause(stated[1])
    whole = text.strip()
    return _clause(whole) if whole and "\n" not in whole and len(whole) < 200 and _is_expression(whole) else None


def clean_math(text: str) -> str:
    """An answer without what hinders a comparison: `$`, units, full stops, repeating decimals as fractions."""
    text = text.strip().strip("$").strip()
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", text).strip().rstrip(".").strip()
    text = _EMPTY_SET.sub(r"\\emptyset", text).replace("\\left", "").replace("\\right", "").replace("\\!", "")
    text = re.sub(r"\{,\}|\\,(?=\d{3}\b)", ",", text)
    text = _REPEATING.sub(_as_fraction, text)
    if scientific := _SCIENTIFIC.fullmatch(text):
        return f"{scientific[1]}\\times 10^{{{int(scientific[2])}}}"
    return _UNIT.sub("", text) or text


def same_notation(gold: str, answer: str) -> bool | None:
    """Whether two cleaned answers are equal, where notation decides it; None where math-verify decides."""
    if _compact(gold) == _compact(answer):
        return True
    if "\\emptyset" in (gold, answer):
        return False
    one, other = _BASE.fullmatch(_compact(gold)), _BASE.fullmatch(_compact(answer))
    if one and other:
        return (one[1].upper(), one[2]) == (other[1].upper(), other[2])
    if other and not one:
        return False
    one, other = _LETTERS.fullmatch(_compact(gold)), _LETTERS.fullmatch(_compact(answer))
    if one and other:
        return one[1] == other[1]
    if _compact(gold).lower() == _compact(answer).lower() and not _WORDS.search(gold):
        return False
    one_sided = bool(_ABSOLUTE.search(gold)) != bool(_ABSOLUTE.search(answer))
    if one_sided and re.search(r"[a-zA-Z]\^|\|[^|]*[a-z]", gold + answer):  # variables may be complex
        return False
    return None


def as_intervals(text: str) -> list[NumberRange]:
    r"""The intervals of a union (`\cup`, "or"), sorted by their text; empty if a part is none."""
    parts = [_as_interval(one) for one in _UNION.split(text)]
    return sorted(one for one in parts if one) if all(parts) else []


def _as_interval(text: str) -> NumberRange | None:
    r"""The interval that a text writes, as `(a, b]` or as an inequality of one letter; None for anything else."""
    text = re.sub(r"^[a-z]\s*\\in\s*", "", text.strip()).replace("\\lbrack", "[").replace("\\rbrack", "]")
    if found := _INTERVAL.fullmatch(text):
        return found[1], _end(found[2]), _end(found[3]), found[4]
    parts, signs = _SIGN.split(text), [_sign(one) for one in _SIGN.findall(text)]
    parts = [one.strip() for one in parts]
    if len(parts) == 2 and re.fullmatch(r"[a-z]", parts[1]) and not re.fullmatch(r"[a-z]", parts[0]):
        parts, signs = parts[::-1], [_flipped(signs[0])]
    if len(parts) == 2 and re.fullmatch(r"[a-z]", parts[0]) and parts[1]:
        open_end = signs[0] in ("<", ">")
        if signs[0][0] == "<":
            return "(", _MINUS_INFINITY, parts[1], ")" if open_end else "]"
        return "(" if open_end else "[", parts[1], _INFINITY, ")"
    if len(parts) == 3 and re.fullmatch(r"[a-z]", parts[1]) and signs[0][0] == signs[1][0] and parts[0] and parts[2]:
        if signs[0][0] == ">":
            parts, signs = parts[::-1], [_flipped(one) for one in signs[::-1]]
        low, high = ("(" if signs[0] == "<" else "["), (")" if signs[1] == "<" else "]")
        return low, parts[0], parts[2], high
    return None


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


def _compact(text: str) -> str:
    return re.sub(r"\s|\\[,;:! ]|~", "", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


def _as_fraction(found: re.Match[str]) -> str:
    whole, fixed, repeated = found[1], found[2], found[3]
    if len(whole + fixed + repeated) > 60:
        return found[0]
    top = int(whole + fixed + repeated) - int(whole + fixed)
    return f"\\frac{{{top}}}{{{'9' * len(repeated)}{'0' * len(fixed)}}}"


def _sign(text: str) -> str:
    return {"\\lt": "<", "\\gt": ">", "<=": "<=", ">=": ">="}.get(text) or _SIGNS[text]


def _flipped(sign: str) -> str:
    return sign.translate(str.maketrans("<>", "><"))


def _end(text: str) -> str:
    text = text.strip()
    return text if not re.fullmatch(r"\+\s*\\infty", text) else _INFINITY
