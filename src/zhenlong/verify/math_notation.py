r"""Answers as they are written, made comparable, and the comparisons that math-verify gets wrong.

`clean_math` takes away what is no part of a value (`$`, units, full stops, "(x, y) =") and rewrites what math-verify
cannot parse: repeating decimals, `½`, "52 base 6", "1 million", "no solution".

`same_notation`, `as_intervals`, `as_tuples` and `as_ratio` decide what math-verify gets wrong: bases (2516_8 is not
2516_9), intervals written as inequalities, single letters by their case, words by their letters, times of day, |x|
against the root of x squared, the empty set, lists of points (one point of two is not both), 3:4:5 against 3:5:4.
"""

from __future__ import annotations

import re
from typing import Final

_NUMBER_WORDS: Final = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16",
}  # fmt: skip
_BASE_NUMBER: Final = rf"(\d{{1,2}}|{'|'.join(_NUMBER_WORDS)})"
_BASE: Final = re.compile(rf"\(?([0-9A-Fa-f]+)\)?_\{{?(?:\\text\{{)?{_BASE_NUMBER}\}}*")
_BASE_IN_WORDS: Final = re.compile(
    rf"([0-9A-Fa-f]+)\s*(?:\\text\s?\{{)?[\s(]*(?:in\s+)?base[\s-]*\}}?\s*{_BASE_NUMBER}[\s)]*\}}?"
)
_TEXT: Final = r"\\(?:text|textrm|textbf|textit|mathrm|mathbf|mathsf|mbox)\s?"
_WHOLE_TEXT: Final = re.compile(rf"{_TEXT}\{{([^{{}}]{{1,200}})\}}")
_TEXT_WITHIN: Final = re.compile(rf"{_TEXT}\{{([0-9A-Fa-f]{{1,40}})\}}(?=_)")
_ROMAN_LETTER: Final = re.compile(r"\\math(?:rm|bf)\s?\{([ie])\}")
_UNIT: Final = re.compile(
    r"(?<=[\d})])(?:(?:~|\\[,;:! ]|\\cdot|/|\s)*\\(?:text|textrm|mathrm|mbox)\s?\{[^{}\d]{1,40}\d?\}"
    r"(?:\^(?:\d|\{-?\d\}))?){1,4}\.?$"
)
_WORDS_AFTER_THOUSANDS: Final = re.compile(r"([-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?)\s+[A-Za-z][A-Za-z .]*")
_CURRENCY: Final = re.compile(rf"^([-+]?)\s*(?:{_TEXT}\{{\s*)?(?:\\?\$|€|£|¥|￥)(?:\s*\}})?\s*(?=[-+\d.])")
_NAMED: Final = re.compile(
    r"^[a-zA-Z]\([a-z]\)\s*=\s*|^\([a-zA-Z](?:_\{?\d\}?)?(?:\s*,\s*[a-zA-Z](?:_\{?\d\}?)?){1,4}\)\s*(?:=|\\in)\s*"
)  # f(x) =, (x, y) =
_SET_OF: Final = re.compile(
    r"\\\{\s*([a-z])(?:\s*\\in\s*\\mathbb\s?\{?R\}?)?\s*(?:\\mid|\\vert|\||:|\\colon)\s*(.{1,120}?)\s*\\\}"
)
_THOUSANDS: Final = re.compile(r"(?<=\d)(?:\{,\}|\\,)(?=\d{3}(?!\d))")
_DECIMAL_COMMA: Final = re.compile(r"(?<=\d)\{,\}(?=\d)")
_EUROPEAN: Final = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+,\d+")
_MIXED: Final = re.compile(r"([-+]?\d+)\s+(\d+)/(\d+)")
_REPEATING: Final = re.compile(r"(\d+)\.(\d*)\\(?:overline|bar|dot)\s?\{?(\d+)\}?")
_REPEATED: Final = re.compile(r"(\d+)\.(\d*?)(\d{1,6}?)\3{2,}\s*(?:\.{3}|…|\\[lc]?dots)")
_SCIENTIFIC: Final = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})")
_LARGE: Final = re.compile(
    rf"([-+]?\d[\d,]*(?:\.\d+)?)\s*(?:\\[, ;])?\s*(?:{_TEXT}\{{)?\s*(thousand|million|billion|trillion)\b[^\d\\]*"
)
_POWERS: Final = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_DECIMAL_EXPONENT: Final = re.compile(r"\^\{(-?)(\d{0,9})\.(\d{1,9})\}")
_TIME: Final = re.compile(
    rf"(\d{{1,2}})\s*:\s*(\d{{2}})\s*(?:~|\\[,; ])?\s*(?:{_TEXT}\{{)?\s*([ap])\.?\s?m\b\.?\s*\}}?", re.IGNORECASE
)
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})([ap]?)")
_NO_SOLUTION: Final = re.compile(
    rf"(?:{_TEXT}\{{)?\s*(?:there (?:is|are) )?(?:no (?:real |integer |such )?solutions?|无解)\s*\.?\s*\}}?",
    re.IGNORECASE,
)
_ALL_REALS: Final = re.compile(
    rf"(?:{_TEXT}\{{)?\s*all (?:the )?(?:reals?|real numbers)\s*(?:x|\$x\$)?\.?\s*\}}?|"
    r"[a-z]\s*\\in\s*\\mathbb\s?\{?R\}?",
    re.IGNORECASE,
)
_EMPTY_SET: Final = re.compile(r"\\(?:varnothing|emptyset)|∅|\\\{\s*\\\}")
_CHARACTERS: Final = str.maketrans(
    {
        "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}",
        "⅕": "\\frac{1}{5}", "⅙": "\\frac{1}{6}", "⅛": "\\frac{1}{8}", "²": "^{2}", "³": "^{3}", "⁴": "^{4}",
        "π": "\\pi ", "×": "\\times ", "·": "\\cdot ", "∞": "\\infty ", "∪": "\\cup ", "≠": "\\neq ", "±": "\\pm ",
        "ℝ": "\\mathbb{R}", "∈": "\\in ", "–": "-", "−": "-",
    }
)  # fmt: skip
_ROOT: Final = re.compile(r"√\s*(?:\(([^()]{1,60})\)|(\d+|[a-z]))")
_SAME_SIGNS: Final = ((r"\geqslant", r"\geq"), (r"\leqslant", r"\leq"), ("{:}", ":"), (r"\colon", ":"), ("**", "^"))

_LETTERS: Final = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\s?\{)?\(?([A-Za-z])\)?\}?")
_WORDS: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_ONE_WORD: Final = re.compile(r"[A-Za-z][a-z]{3,30}")
_ABSOLUTE: Final = re.compile(r"\||\\[lr]?vert|\\mid")
_SIGNS: Final = {"<": "<", ">": ">", "\\le": "<=", "\\leq": "<=", "≤": "<=", "\\ge": ">=", "\\geq": ">=", "≥": ">="}
_SIGN: Final = re.compile(r"\\leq?(?![a-z])|\\geq?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=?|>=?|≤|≥")
_INTERVAL: Final = re.compile(
    r"([(\[])([^,;()\[\]]{1,80}(?:\([^()]{0,80}\)[^,;()\[\]]{0,80})?)[,;]([^,;]{1,80})([)\]])"
)
_TURNED: Final = re.compile(r"([\[\]])([^,;()\[\]]{1,80})[,;]([^,;()\[\]]{1,80})([\[\]])")  # ]0, 5[
_WITHOUT_ONE: Final = re.compile(r"([a-z])\s*\\neq?(?![a-z])\s*(.{1,80})")
_BOUNDED: Final = re.compile(r"\|\s*[a-z]\s*\|\s*(<=|<|≤|\\leq?(?![a-z])|\\lt(?![a-z]))\s*([^<>=|]{1,40})")
_UNION: Final = re.compile(r"\\cup(?![a-z])|∪|\\text\s?\{\s*or\s*\}|\s+or\s+|\\lor(?![a-z])")
_LIST_MARK: Final = re.compile(r"\s*(?:[,;]|\\text\s?\{\s*(?:and|or)\s*\}|\band\b|\bor\b)\s*")
_MAX_PARTS: Final = 20
_MINUS_INFINITY, _INFINITY = "-\\infty", "\\infty"

NumberRange = tuple[str, str, str, str]  # "(" or "[", the ends, ")" or "]"


def clean_math(text: str) -> str:
    """An answer without what hinders a comparison: `$`, units, full stops, repeating decimals as fractions."""
    text = text.strip().strip("$").strip()
    text = re.sub(r"^\\[(\[]|\\[)\]]$|^\*\*|\*\*$", "", text).strip()
    text = re.sub(r"(?<![.\\])[.,;]$|^(?:\\[,;:! ]|\\q?quad\b|\s)+|(?:\\[,;:! ]|\\q?quad\b|\s)+$", "", text).strip()
    if whole := _WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip().rstrip(".").strip()
    if time := _TIME.fullmatch(text):
        return f"{int(time[1])}:{time[2]}{time[3].lower()}"
    if _NO_SOLUTION.fullmatch(text):
        return "\\emptyset"
    if _ALL_REALS.fullmatch(text):
        return "\\mathbb{R}"
    text = _plain_signs(text)
    if in_words := _BASE_IN_WORDS.fullmatch(text):
        return f"{in_words[1]}_{{{_NUMBER_WORDS.get(in_words[2], in_words[2])}}}"
    if large := _LARGE.fullmatch(text):
        return f"{large[1]}\\times 10^{{{_POWERS[large[2]]}}}"
    if scientific := _SCIENTIFIC.fullmatch(text):
        return f"{scientific[1]}\\times 10^{{{int(scientific[2])}}}"
    if mixed := _MIXED.fullmatch(text):
        return f"{mixed[1]}\\frac{{{mixed[2]}}}{{{mixed[3]}}}"
    if words := _WORDS_AFTER_THOUSANDS.fullmatch(text):
        return words[1]
    return _UNIT.sub("", text) or text


def same_notation(gold: str, answer: str) -> bool | None:
    """Whether two cleaned answers are equal, where notation decides it; None where math-verify decides."""
    if _compact(gold) == _compact(answer):
        return True
    if "\\emptyset" in (gold, answer):
        return False
    one, other = _CLOCK.fullmatch(_compact(gold)), _CLOCK.fullmatch(_compact(answer))
    if one and other and (one[3] or other[3] or "0" in (one[2][0], other[2][0])):
        return _minutes(one) == _minutes(other) if one[3] and other[3] else one.groups()[:2] == other.groups()[:2]
    one, other = _BASE.fullmatch(_compact(gold)), _BASE.fullmatch(_compact(answer))
    if one and other:
        return (one[1].upper(), _base(one)) == (other[1].upper(), _base(other))
    if other and not one:
        return False
    one, other = _LETTERS.fullmatch(_compact(gold)), _LETTERS.fullmatch(_compact(answer))
    if one and other:
        return one[1] == other[1]
    if _ONE_WORD.fullmatch(gold) and _ONE_WORD.fullmatch(answer):  # not the product of their letters
        return gold.lower() == answer.lower()
    if _compact(gold).lower() == _compact(answer).lower() and (gold[1:] == answer[1:] or not _WORDS.search(gold)):
        return bool(_WORDS.fullmatch(gold))  # "yes" is "Yes", but x is not X
    one_sided = bool(_ABSOLUTE.search(gold)) != bool(_ABSOLUTE.search(answer))
    if one_sided and re.search(r"[a-zA-Z]\^|\|[^|]*[a-z]", gold + answer):  # variables may be complex
        return False
    return None


def as_intervals(text: str) -> list[NumberRange]:
    r"""The intervals of a union (`\cup`, "or"), sorted by their text; empty if a part is none."""
    if without := _WITHOUT_ONE.fullmatch(text.strip()):
        return [("(", _MINUS_INFINITY, without[2], ")"), ("(", without[2], _INFINITY, ")")]
    parts = [_as_interval(one) for one in _UNION.split(text)]
    return sorted(one for one in parts if one) if all(parts) else []


def as_tuples(text: str) -> list[str]:
    """The points of a list of two or more, such as `(1,2), (3,4)`; empty for anything else."""
    inner = re.sub(r"^\\\{|\\\}$", "", text.strip()).strip()
    parts: list[str] = []
    while inner.startswith("(") and len(parts) < _MAX_PARTS:
        end = _closing(inner)
        if end < 0 or "," not in inner[:end]:
            return []
        parts.append(inner[: end + 1])
        inner = inner[end + 1 :].strip()
        mark = _LIST_MARK.match(inner)
        while mark:
            inner, mark = inner[mark.end() :].strip(), _LIST_MARK.match(inner[mark.end() :])
    return parts if len(parts) > 1 and not inner else []


def as_ratio(text: str) -> list[str]:
    """The terms of a ratio of three or more, such as `3:4:5`; empty for anything else."""
    terms = [one.strip() for one in text.split(":")]
    return terms if 2 < len(terms) <= _MAX_PARTS and all(terms) else []


def _plain_signs(text: str) -> str:
    """The text with LaTeX for other signs, and without what is no part of the value."""
    text = text.translate(_CHARACTERS) if not text.isascii() else text
    text = _ROOT.sub(lambda found: f"\\sqrt{{{found[1] or found[2]}}}", text)
    for sign, other in _SAME_SIGNS:
        text = text.replace(sign, other)
    text = _EMPTY_SET.sub(r"\\emptyset", text).replace("\\left", "").replace("\\right", "").replace("\\!", "")
    if set_of := _SET_OF.fullmatch(text.strip()):
        text = set_of[2]
    text = re.sub(r"\\(?:lor|vee)(?![a-zA-Z])", r"\\text{ or }", text)
    text = re.sub(r"\\[bB]igg?[lr]?(?![a-zA-Z])", "", text)
    text = _ROMAN_LETTER.sub(r"\1", _TEXT_WITHIN.sub(r"\1", text))
    text = _NAMED.sub("", _CURRENCY.sub(r"\1", text))
    text = _DECIMAL_COMMA.sub(".", _THOUSANDS.sub(",", text))
    if _EUROPEAN.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    text = _REPEATING.sub(_as_fraction, _REPEATED.sub(_as_fraction, text))
    return _DECIMAL_EXPONENT.sub(
        lambda found: f"^{{{found[1]}\\frac{{{int(found[2] + found[3])}}}{{{10 ** len(found[3])}}}}}", text
    )


def _as_interval(text: str) -> NumberRange | None:
    r"""The interval that a text writes, as `(a, b]` or as an inequality of one letter; None for anything else."""
    text = re.sub(r"^[a-z]\s*\\in\s*", "", text.strip()).replace("\\lbrack", "[").replace("\\rbrack", "]")
    if found := _INTERVAL.fullmatch(text):
        return found[1], _end(found[2]), _end(found[3]), found[4]
    if (turned := _TURNED.fullmatch(text)) and (turned[1], turned[4]) != ("[", "]"):
        low, high = ("[" if turned[1] == "[" else "("), ("]" if turned[4] == "]" else ")")
        return low, _end(turned[2]), _end(turned[3]), high
    if bounded := _BOUNDED.fullmatch(text):
        brackets = "()" if bounded[1] in ("<", "\\lt") else "[]"
        return brackets[0], f"-({bounded[2].strip()})", bounded[2].strip(), brackets[1]
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


def _closing(text: str) -> int:
    """The place of the bracket that closes the first one; -1 if there is none."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return place
    return -1


def _compact(text: str) -> str:
    return re.sub(r"\s|\\[,;:! ]|~", "", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


def _base(found: re.Match[str]) -> str:
    return _NUMBER_WORDS.get(found[2], found[2])


def _minutes(found: re.Match[str]) -> int:
    return int(found[1]) % 12 * 60 + int(found[2]) + 720 * (found[3] == "p")


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
