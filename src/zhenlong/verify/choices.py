"""Which option an answer chooses: by its letter, in the forms that people's models write, or by its text.

Every place that names an option is found first: a letter, marked as in `(C)`, `**C**`, `C)`, `option C`, or alone as a
capital, or the option's text. What is ruled out ("not A", "A is wrong") is not named. Then, in this order:

1. The whole answer, or its last box, is a letter or an option's text.
2. The last statement of an answer counts: "the answer is (C)", "Option C is correct", "I choose C", "答案是C".
3. The answer begins with a letter and a mark: "C) text", "(C)", "C. text".
4. Exactly one option is named anywhere.

An answer that names two options in one statement ("A or B") chooses none. Official rules of benchmarks are elsewhere,
under their own names; this is the readable measure beside them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from zhenlong.verify.answer_text import plain_characters, strip_reasoning
from zhenlong.verify.final_answer import last_boxed

MAX_LENGTH: Final = 20_000
"""Characters read, from the end of the answer: the conclusion stands there."""
MAX_MENTIONS: Final = 200  # letters and texts read; of more, those at the beginning and at the end
_WINDOW: Final = 120  # characters before and after a letter in which a statement is looked for

_LATEX_TEXT: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf)\s*\{([^{}]{0,200})\}")
_EMPHASIZED_LETTER: Final = re.compile(r"(?:\*\*|__|\$|`)\s*\(?([A-Za-z])\)?\s*(?:\*\*|__|\$|`)")
_EMPHASIS: Final = re.compile(
    r"\*+|__+|`+|\$+|\\[()\[\]]|</?(?:b|i|em|strong|answer|choice|final_answer)>", re.IGNORECASE
)
_LETTER: Final = re.compile(r"(?<![A-Za-z0-9'])([A-Za-z])(?![A-Za-z0-9]|'[A-Za-z])")
_ARTICLE: Final = re.compile(
    r"\s+(?!(?:is|was|and|or|but|because|since|as|due|seems|appears|must|would|cannot)\b)[a-z]"
)
_PRONOUN: Final = re.compile(r"\s+(?!(?:is|because|since)\b)[a-z]")
_NUMBERING: Final = re.compile(r"\s*(?:[)\].:、．]|\s[-–—]\s)")
_KIND_WORD: Final = re.compile(r"(?:\b(?:option|choice|letter|answer)|选项)\s*[:(\[\"']?\s*$", re.IGNORECASE)

_NOUN: Final = r"(?:answers?|options?|choices?|response|solution|selection)"
_IS: Final = (
    r"(?:is|was|are|be|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be|seems\s+to\s+be|appears\s+to\s+be)"
)
_FILLER: Final = (
    r"(?:(?:therefore|thus|hence|indeed|clearly|definitely|probably|likely|simply|then|just|only|the|option|choice|answer|"
    r"letter|statement|most\s+likely|best|correct|right|as\s+follows)\b[\s,:]*)*"
)
_LEAD: Final = re.compile(
    rf"(?:\b{_NOUN}(?:\s+(?:to|for|of|here|among|from|in|that|which)\b[^.:\n]{{0,60}})?\s*(?:{_IS}\b\s*:?|:|=|->|→)\s*{_FILLER}"
    rf"|\b(?:i|we)(?:'d|'ll|\s+would|\s+will|\s+must)?\s+(?:choose|chose|pick|picked|select|selected|go\s+(?:with|for)|"
    rf"went\s+with|answer|say|vote\s+for)\s*:?\s*{_FILLER}"
    rf"|\b(?:it|that|this)(?:'s|\s+{_IS}|\s+leaves)\s+{_FILLER}|\b(?:choose|select|pick)\s+{_FILLER}|\bleav(?:es|ing)\s+{_FILLER}"
    r"|(?:答案|选项|选择)\s*(?:应该|应当|应)?\s*(?:就)?(?:是|为|选|:)+\s*(?:选项)?|选(?:择)?(?:是|为|:)?\s*(?:选项)?)"
    r"[\s(\[{\"'“]*$",
    re.IGNORECASE,
)
_VERDICT: Final = re.compile(
    r"[)\]\"']*\s*(?:is|was|seems|appears|looks|would\s+be|must\s+be)\s+(?:to\s+be\s+)?(?:therefore\s+|thus\s+|clearly\s+|"
    r"indeed\s+|definitely\s+)?(?:the\s+|a\s+|an\s+|my\s+)?(?:only\s+|most\s+|final\s+)?(?:correct|right|best|true|accurate|"
    r"appropriate|answer)|[)\]]*\s*(?:选项)?(?:是)?(?:正确|对的|最佳)",
    re.IGNORECASE,
)
_NEGATION: Final = re.compile(
    r"(?:\b(?:not|never|neither|nor|incorrect|wrong|false|eliminat(?:e|es|ed|ing)|rul(?:e|es|ed|ing)\s+out|exclud(?:e|es|ed|ing)"
    r"|reject(?:s|ed)?|instead\s+of|rather\s+than|other\s+than|unlike|except)\b|n't\b|\bcannot\b|不是|不对|不选|错误|排除|并非)",
    re.IGNORECASE,
)
_RULED_OUT: Final = re.compile(
    r"[)\]\"']*\s*(?:(?:and|or|nor|,|、)\s*\(?[A-Z]\)?\s*)*(?:(?:is|are|was|were|can|could|do|does|seems?)\s*)?"
    r"(?:both\s+|clearly\s+|definitely\s+|also\s+|all\s+)?(?:not\b|n't\b|incorrect\b|wrong\b|false\b|ruled\s+out|eliminated|"
    r"cannot\b|can't\b|isn't\b|aren't\b|不对|不正确|错误|错)",
    re.IGNORECASE,
)
_TEXT_RULED_OUT: Final = re.compile(
    r"[)\]\"']*\s*(?:is|are|was|were|would\s+be|seems?)\s*(?:n't|not)?\s*(?:the\s+)?(?:incorrect|wrong|false)\b|[)\]\"']*\s*"
    r"(?:is|are|was|were|would|can)\s*(?:n't|not)\s+(?:be\s+)?(?:the\s+)?(?:correct|right|answer|true)\b",
    re.IGNORECASE,
)
_LEADING_END: Final = re.compile(r"\s*(?:[,.;:!\n—-]|because\b|since\b|$)")
_CLAUSE_OVER: Final = re.compile(r"[)\]\"']*\s*(?:[.,;!\n]|$)")
_NEXT_QUESTION: Final = re.compile(r"\n\s*(?:Question|Q|问题)\s*\d{0,4}\s*:")
_CLAUSE_END: Final = re.compile(
    r"[,;:!?\n。，；！？—]|\.(?=\s|$)|\b(?:but|so|hence|therefore|thus|because|since|while|whereas)\b", re.IGNORECASE
)
_JOINED: Final = re.compile(
    r"[)\]\"'\s]*(?:,|/|&|\+|、|\band/or\b|\band\b|\bor\b|或|和|与|及|\s)*[(\[\"'\s]*(?:both|either|option|choice|选项)?\s*",
    re.IGNORECASE,
)
_HEDGE: Final = re.compile(
    r"\b(?:could|might|may|can)\s+(?:also|as\s+well|equally)\b|\balternatively\b|\bor\s+(?:maybe|perhaps|possibly)\b"
    r"|也可能|也可以",
    re.IGNORECASE,
)
_UNKNOWN_OPTION: Final = re.compile(
    r"\b(?:cannot|can't|can not|not|un)\b.{0,20}\b(?:determined?|answer(?:ed|able)?|known?|info(?:rmation)?|told|say)\b"
    r"|\b(?:unknown|undetermined|unanswerable|unclear)\b|无法(?:确定|判断)|不(?:知道|确定)|未知",
    re.IGNORECASE,
)
_UNKNOWN_ANSWER: Final = re.compile(
    r"\b(?:not|n't|cannot|insufficient|no)\b.{0,60}\b(?:determin\w*|know\w*|tell|say|info(?:rmation)?|enough|clear|specif\w*|"
    r"stated?|mention\w*|provided?|indicat\w*|sufficient|possible)\b|\b(?:unknown|unclear|undetermined|ambiguous|"
    r"insufficient)\b|无法|没有(?:足够|提供|说明)|未(?:知|说明|提供)|不(?:清楚|确定)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Mention:
    """One place that names an option; `marked` if it can be nothing else than a letter or an option's text."""

    start: int
    end: int
    option: int
    marked: bool
    negated: bool


def read_choice(content: str, options: Sequence[str]) -> int | None:
    """The place of the option that an answer chooses; None where it chooses none, or more than one.

    `options` are the texts in the order of their letters A, B, ...; "" where only the letter is known. The reasoning
    trace is cut, and so is a further question that a base model puts to itself.
    """
    answer = strip_reasoning(content)
    if (further := _NEXT_QUESTION.search(answer.lstrip())) is not None:
        answer = answer.lstrip()[: further.start()]
    answer = answer[-MAX_LENGTH:]
    forms = [_plain(one).strip() for one in options]
    boxed = last_boxed(answer)
    if boxed is not None:
        whole = _whole(_plain(boxed).strip(), forms)
        return whole if whole is not None else _read_text(_plain(boxed).strip(), forms)
    text = _plain(answer).strip()
    whole = _whole(text, forms)
    return whole if whole is not None else _read_text(text, forms)


def _read_text(text: str, forms: Sequence[str]) -> int | None:
    mentions = _mentions(text, forms)
    stated = [number for number, one in enumerate(mentions) if not one.negated and _is_stated(text, one)]
    if stated:
        return _last_statement(text, mentions, stated[-1])
    leading = _leading_letter(text, mentions)
    if leading is not None:
        return leading if leading >= 0 else None
    named = {one.option for one in mentions if one.marked and not one.negated}
    if len(named) != 1 and (unknown := _unknown_option(text, forms)) is not None:
        return unknown
    if not named:
        named = {one.option for one in mentions if not one.negated}
    return named.pop() if len(named) == 1 else None


def _plain(text: str) -> str:
    """Without emphasis and LaTeX text commands; a letter that was emphasized stands in brackets."""
    text = plain_characters(text)
    for _ in range(2):
        text = _LATEX_TEXT.sub(r"\1", text)
    text = _EMPHASIZED_LETTER.sub(r" (\1) ", text)
    return _EMPHASIS.sub("", text)


def _whole(text: str, forms: Sequence[str]) -> int | None:
    """The option whose letter, in either case, or whose text the whole text is."""
    bare = text.strip(" \n\t.,;:!?()[]{}\"'。，、")
    if len(bare) == 1 and bare.isascii() and bare.isalpha() and ord(bare.upper()) - ord("A") < len(forms):
        return ord(bare.upper()) - ord("A")
    wanted = _comparable(text)
    return next((place for place, form in enumerate(forms) if form and _comparable(form) == wanted), None)


def _comparable(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .。!\"'")


def _mentions(text: str, forms: Sequence[str]) -> list[_Mention]:
    """All places that name an option, in order; letters within an option's text are part of it."""
    texts = _text_places(text, forms)
    starts = [start for start, _, _ in texts]
    letters = []
    for match in _LETTER.finditer(text):
        option = ord(match[1].upper()) - ord("A")
        inside = bisect_right(starts, match.start()) - 1
        if option < len(forms) and not (inside >= 0 and match.start() < texts[inside][1]):
            letters.append((match.start(), match.end(), option))
    places = sorted([*texts, *letters])
    if len(places) > MAX_MENTIONS:
        places = [*places[: MAX_MENTIONS // 4], *places[-MAX_MENTIONS * 3 // 4 :]]
    found = (_mention(text, *place) for place in places)
    return [one for one in found if one is not None]


def _mention(text: str, start: int, end: int, option: int) -> _Mention | None:
    """The mention at a place; None for a letter that is a word of the sentence, such as the article "A"."""
    if end - start > 1 or text[start].isdigit():
        return _Mention(start, end, option, True, _is_negated(text, start, end, _TEXT_RULED_OUT))
    marked = _is_marked(text, start, end)
    after = text[end : end + 20]
    is_word = (text[start] == "A" and _ARTICLE.match(after)) or (text[start] == "I" and _PRONOUN.match(after))
    if not marked and (text[start].islower() or is_word) and not _is_stated_alone(text, start, end):
        return None
    return _Mention(start, end, option, marked, _is_negated(text, start, end, _RULED_OUT))


def _is_stated_alone(text: str, start: int, end: int) -> bool:
    """Whether a letter, in either case, is all that a statement says: "the answer is c."."""
    return bool(_CLAUSE_OVER.match(text, end)) and bool(_LEAD.search(text[max(0, start - _WINDOW) : start]))


def _text_places(text: str, forms: Sequence[str]) -> list[tuple[int, int, int]]:
    """Where an option's text stands as words, in order; within a longer option's text only the longer one."""
    found: list[tuple[int, int, int]] = []
    for place in sorted(range(len(forms)), key=lambda place: -len(forms[place])):
        form = forms[place].strip().rstrip(".。")
        if len(form) < 2 and not form.isdigit():  # a single letter is read as a letter
            continue
        words = r"\s+".join(map(re.escape, form.split()))
        matches = re.finditer(rf"(?<![A-Za-z0-9]){words}(?![A-Za-z0-9])", text, re.IGNORECASE)
        own = [(match.start(), match.end(), place) for match in islice(matches, MAX_MENTIONS)]
        found += [one for one in own if not any(start <= one[0] < end for start, end, _ in found)]
    return sorted(found)


def _is_marked(text: str, start: int, end: int) -> bool:
    """Whether a letter stands in brackets, before a numbering mark at a line's start, or after "option"."""
    before, after = text[max(0, start - 12) : start], text[end : end + 3]
    if before.rstrip()[-1:] in ("(", "[") and after.lstrip()[:1] in (")", "]"):
        return True
    if after[:1] in (")", "]") and before.count("(") <= before.count(")"):
        return True
    line_start = not before.strip(" ") or before.rstrip(" ").endswith("\n")
    if line_start and text[start].isupper() and _NUMBERING.match(text, end) and before.strip() == "":
        return True
    is_word = text[start].isupper() or not after[:1].isspace()
    return bool(_KIND_WORD.search(before)) and is_word


def _is_negated(text: str, start: int, end: int, ruled_out: re.Pattern[str]) -> bool:
    """Whether the clause rules the option out, before it or right after it."""
    clause = _CLAUSE_END.split(text[max(0, start - _WINDOW) : start])[-1]
    return bool(_NEGATION.search(clause)) or bool(ruled_out.match(text[end : end + _WINDOW]))


def _is_stated(text: str, one: _Mention) -> bool:
    return bool(_LEAD.search(text[max(0, one.start - _WINDOW) : one.start])) or bool(
        _VERDICT.match(text[one.end : one.end + _WINDOW])
    )


def _last_statement(text: str, mentions: Sequence[_Mention], number: int) -> int | None:
    """The option of a statement; None where another one is joined to it, or offered after it."""
    chosen = {mentions[number].option}
    for step in (1, -1):
        place = number
        while 0 <= place + step < len(mentions):
            left, right = sorted((mentions[place], mentions[place + step]), key=lambda one: one.start)
            between = text[left.end : right.start]
            if (
                right.negated
                or left.negated
                or not (len(between) < _WINDOW and (_JOINED.fullmatch(between) or _is_numbering(between)))
            ):
                break
            chosen.add(mentions[place + step].option)
            place += step
    rest = text[mentions[number].end :]
    hedge = _HEDGE.search(rest)
    if hedge:
        after = mentions[number].end + hedge.start()
        chosen |= {one.option for one in mentions if one.start >= after - 30 and not one.negated}
    return chosen.pop() if len(chosen) == 1 else None


def _is_numbering(between: str) -> bool:
    """Whether the text between a letter and an option's text is a mark only: "B) text", "B: text", "B - text"."""
    return not between.strip(" )].:-–—、．\"'")


def _leading_letter(text: str, mentions: Sequence[_Mention]) -> int | None:
    """The option whose letter and mark the answer begins with; -1 where it lists several, None where it does not."""
    first = next((one for one in mentions if not text[: one.start].strip("([\"' ")), None)
    if first is None or first.end - first.start != 1 or not (first.marked or _ends_clause(text, first.end)):
        return None
    if first.negated:
        return None
    starts = {
        one.option for one in mentions if one.end - one.start == 1 and one.marked and _starts_line(text, one.start)
    }
    chosen = _last_statement(text, mentions, mentions.index(first))
    return -1 if chosen is None or len(starts | {first.option}) > 1 else chosen


def _ends_clause(text: str, end: int) -> bool:
    return bool(_LEADING_END.match(text, end))


def _starts_line(text: str, start: int) -> bool:
    return not text[text.rfind("\n", 0, start) + 1 : start].strip("([-*• ")


def _unknown_option(text: str, forms: Sequence[str]) -> int | None:
    """The only option that says "not known", where the answer says so in words of its own."""
    unknown = [place for place, form in enumerate(forms) if _UNKNOWN_OPTION.search(form)]
    return unknown[0] if len(unknown) == 1 and _UNKNOWN_ANSWER.search(text[-2 * MAX_LENGTH // 10 :]) else None
