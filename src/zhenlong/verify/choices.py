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
from zhenlong.verify.choice_words import (
    ARTICLE,
    BETWEEN,
    CHINESE_ORDINALS,
    CHOICE_HEDGE,
    CHOICE_NEGATION,
    CLAUSE_END,
    CLAUSE_OVER,
    CONCLUSION_AFTER,
    CONCLUSION_BEFORE,
    EMPHASIS,
    EMPHASIZED_LETTER,
    JOINED,
    KIND_WORD,
    LATEX_TEXT,
    LEAD,
    LEADING_END,
    LETTER,
    LISTED_LINE,
    LISTED_RIGHT,
    LISTED_WRONG,
    NEXT_QUESTION,
    NUMBER_WORD,
    NUMBERING,
    ONLY_AFTER,
    ONLY_BEFORE,
    ORDINAL_OPTION,
    ORDINALS,
    PASSED_OVER,
    PRONOUN,
    RULED_OUT,
    TEXT_RULED_OUT,
    UNKNOWN_ANSWER,
    UNKNOWN_OPTION,
    VERDICT,
)
from zhenlong.verify.math_answer import joined_boxes

MAX_LENGTH: Final = 20_000
"""Characters read, from the end of the answer: the conclusion stands there."""
MAX_MENTIONS: Final = 200  # letters and texts read; of more, those at the beginning and at the end
_WINDOW: Final = 120  # characters before and after a letter in which a statement is looked for


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
    if (further := NEXT_QUESTION.search(answer.lstrip())) is not None:
        answer = answer.lstrip()[: further.start()]
    answer = answer[-MAX_LENGTH:]
    forms = [_plain(one).strip() for one in options]
    boxes = joined_boxes(answer)
    text = _plain(answer if boxes is None else boxes).strip()
    if not any(character.isdigit() for form in forms for character in form):
        text = _letters_for_numbers(text, len(forms))
    whole = _whole(text, forms)
    return whole if whole is not None else _read_text(text, forms)


def _letters_for_numbers(text: str, count: int) -> str:
    """The text with letters for the numbers of options: "option 2", "the second option", or "2" as the whole answer."""

    def lettered(place: int, found: re.Match[str]) -> str:
        return f"option {chr(ord('A') + place)}" if 0 <= place < count else found[0]

    def ordinal(found: re.Match[str]) -> str:
        return lettered(ORDINALS.index(found[1].lower()) if found[1] else CHINESE_ORDINALS.index(found[2]), found)

    def number(found: re.Match[str]) -> str:
        before, place = text[max(0, found.start() - _WINDOW) : found.start()], int(found[0]) - 1
        named = NUMBER_WORD.search(before)
        alone = CLAUSE_OVER.match(text, found.end()) and (LEAD.search(before) or not before.strip(" ([\"'"))
        if not named and not alone:
            return found[0]
        return chr(ord("A") + place) if 0 <= place < count else found[0]

    text = ORDINAL_OPTION.sub(ordinal, text)
    return re.sub(r"(?<![\w.,])\d{1,2}(?![\w%]|[.,]\d)", number, text)


def _read_text(text: str, forms: Sequence[str]) -> int | None:
    mentions = _mentions(text, forms)
    stated = [number for number, one in enumerate(mentions) if not one.negated and _is_stated(text, one)]
    if stated:
        return _last_statement(text, mentions, stated[-1])
    listed = _listed_right(text, forms)
    if listed is not None:
        return listed
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
        text = LATEX_TEXT.sub(r"\1", text)
    text = EMPHASIZED_LETTER.sub(r" (\1) ", text)
    return EMPHASIS.sub("", text)


def _whole(text: str, forms: Sequence[str]) -> int | None:
    """The option whose letter, in either case, or whose text the whole text is."""
    bare = text.strip(" \n\t.,;:!?()[]{}\"'。，、")
    if len(bare) == 1 and bare.isascii() and bare.isalpha() and ord(bare.upper()) - ord("A") < len(forms):
        return ord(bare.upper()) - ord("A")
    for same in (_comparable, _without_article):
        wanted = same(text)
        found = [place for place, form in enumerate(forms) if form and same(form) == wanted]
        if found:
            return found[0] if same is _comparable or len(found) == 1 else None
    return None


def _without_article(text: str) -> str:
    return re.sub(r"^(?:a|an|the)\s+(?=\w\w)", "", _comparable(text))


def _comparable(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .。!\"'")


def _listed_right(text: str, forms: Sequence[str]) -> int | None:
    """The option that a list of all options with their verdicts calls right: "A: wrong", "B) text - correct"."""
    verdicts: dict[int, bool] = {}
    for line in LISTED_LINE.finditer(text):
        option = ord(line[1]) - ord("A")
        if option >= len(forms):
            continue
        rest = line[2].strip()
        if forms[option] and rest.casefold().startswith(forms[option].casefold()):
            rest = rest[len(forms[option]) :]
        if LISTED_WRONG.search(rest) or LISTED_RIGHT.search(rest):
            verdicts[option] = not LISTED_WRONG.search(rest)
    right = [option for option, is_right in verdicts.items() if is_right]
    return right[0] if len(verdicts) > 1 and len(right) == 1 else None


def _mentions(text: str, forms: Sequence[str]) -> list[_Mention]:
    """All places that name an option, in order; letters within an option's text are part of it."""
    texts = _text_places(text, forms)
    starts = [start for start, _, _ in texts]
    letters = []
    for match in LETTER.finditer(text):
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
        return _Mention(start, end, option, True, _is_negated(text, start, end, TEXT_RULED_OUT))
    marked = _is_marked(text, start, end)
    after = text[end : end + 20]
    is_word = (text[start] == "A" and ARTICLE.match(after)) or (text[start] == "I" and PRONOUN.match(after))
    if not marked and (text[start].islower() or is_word) and not _is_stated_alone(text, start, end):
        return None
    return _Mention(start, end, option, marked, _is_negated(text, start, end, RULED_OUT))


def _is_stated_alone(text: str, start: int, end: int) -> bool:
    """Whether a letter, in either case, is all that a statement says: "the answer is c."."""
    return bool(CLAUSE_OVER.match(text, end)) and bool(LEAD.search(text[max(0, start - _WINDOW) : start]))


def _text_places(text: str, forms: Sequence[str]) -> list[tuple[int, int, int]]:
    """Where an option's text stands as words, in order; within a longer option's text only the longer one."""
    found: list[tuple[int, int, int]] = []
    for place in sorted(range(len(forms)), key=lambda place: -len(forms[place])):
        form = forms[place].strip().rstrip(".。")
        if len(form) < 2 and form.isascii() and not form.isdigit():  # a single letter is read as a letter
            continue
        words = r"\s+".join(map(re.escape, form.split()))
        words = re.sub(r"^(?:a|an|the)\\s\+(?=\w\w)", r"(?:(?:a|an|the)\\s+)?", words, flags=re.IGNORECASE)
        matches = re.finditer(rf"(?<![A-Za-z0-9]){words}(?![A-Za-z0-9])", text, re.IGNORECASE)
        own = [(match.start(), match.end(), place) for match in islice(matches, MAX_MENTIONS)]
        if len(form) < 2 and not form.isdigit():  # "对" is a part of other words
            own = [one for one in own if _is_stated_alone(text, one[0], one[1])]
        found += [one for one in own if not any(start <= one[0] < end for start, end, _ in found)]
    return sorted(found)


def _is_marked(text: str, start: int, end: int) -> bool:
    """Whether a letter stands in brackets, before a numbering mark at a line's start, or after "option"."""
    before, after = text[max(0, start - 12) : start], text[end : end + 3]
    if before.rstrip()[-1:] in ("(", "[") and after.lstrip()[:1] in (")", "]"):
        return True
    clause = text[max(0, start - _WINDOW) : start]
    if after[:1] in (")", "]") and clause.count("(") <= clause.count(")"):
        return True
    line_start = not before.strip(" ") or before.rstrip(" ").endswith("\n")
    if line_start and text[start].isupper() and NUMBERING.match(text, end) and before.strip() == "":
        return True
    is_word = text[start].isupper() or not after[:1].isspace()
    return bool(KIND_WORD.search(before)) and is_word


def _is_negated(text: str, start: int, end: int, ruled_out: re.Pattern[str]) -> bool:
    """Whether the clause rules the option out, before it or right after it."""
    before, after = text[max(0, start - _WINDOW) : start], text[end : end + _WINDOW]
    if ONLY_BEFORE.search(before) and ONLY_AFTER.match(after):  # "all but B are wrong"
        return False
    if (ruled_out is RULED_OUT and (BETWEEN.search(before) or PASSED_OVER.search(before))) or (
        after.startswith("?") and after[1:].strip()
    ):
        return True
    return bool(CHOICE_NEGATION.search(CLAUSE_END.split(before)[-1])) or bool(ruled_out.match(after))


def _is_stated(text: str, one: _Mention) -> bool:
    before, after = text[max(0, one.start - _WINDOW) : one.start], text[one.end : one.end + _WINDOW]
    if LEAD.search(before) or VERDICT.match(after) or (ONLY_BEFORE.search(before) and ONLY_AFTER.match(after)):
        return True
    return bool(CONCLUSION_BEFORE.search(before)) and CONCLUSION_AFTER.fullmatch(text, one.end) is not None


def _last_statement(text: str, mentions: Sequence[_Mention], number: int) -> int | None:
    """The option of a statement; None where another one is joined to it, or offered after it."""
    chosen = {mentions[number].option}
    for step in (1, -1):
        place = number
        while 0 <= place + step < len(mentions):
            left, right = sorted((mentions[place], mentions[place + step]), key=lambda one: one.start)
            between = text[left.end : right.start]
            labels = left.end - left.start == 1 < right.end - right.start and _is_numbering(between)
            if right.negated or left.negated or not (len(between) < _WINDOW and (JOINED.fullmatch(between) or labels)):
                break
            chosen.add(mentions[place + step].option)
            place += step
    rest = text[mentions[number].end :]
    hedge = CHOICE_HEDGE.search(rest)
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
    return bool(LEADING_END.match(text, end))


def _starts_line(text: str, start: int) -> bool:
    return not text[text.rfind("\n", 0, start) + 1 : start].strip("([-*• ")


def _unknown_option(text: str, forms: Sequence[str]) -> int | None:
    """The only option that says "not known", where the answer says so in words of its own."""
    unknown = [place for place, form in enumerate(forms) if UNKNOWN_OPTION.search(form)]
    return unknown[0] if len(unknown) == 1 and UNKNOWN_ANSWER.search(text[-2 * MAX_LENGTH // 10 :]) else None
