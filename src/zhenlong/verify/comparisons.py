"""What a text says of two answers, a and b: which one is better, or that they are equal.

Sentences are read as they are meant, or not at all: "a is better than b" is a, so is "b is worse than a", and "a could
be better" says nothing. Three kinds of statement are told apart: an *explicit* verdict (`[[A]]`, "Winner: B", a line
that is only "Output (a)"), an *overall* one ("a is better", "I prefer b", "they are equal"), and one of an *aspect*
("a is more detailed"). The last explicit one counts, else the last overall one, else the aspects if they agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from zhenlong.verify.comparison_words import (
    ASPECT_WORSE,
    BETTER,
    BETTER_IN_ONE_ASPECT,
    CHINESE_THAN,
    CHOSEN_OVER,
    CONCEDED,
    DENIED,
    EXPLICIT_NAMES,
    FILLER_WORD,
    HEDGE,
    LABELLED,
    MENTIONS,
    MORE,
    NEGATION,
    NOT_AS_GOOD,
    OPENING,
    PREFER,
    RANKED,
    RANKS_FIRST,
    RESUMED,
    REVISION,
    SAID,
    TIE,
    TIE_VALUE,
    WORSE,
)

A, B, TIED, BOTH, MARK = "\ue000", "\ue001", "\ue002", "\ue003", "\ue004"  # stand-ins for what a text names
SIDE: Final = f"[{A}{B}]"
VALUES: Final = {A: "a", B: "b", TIED: "tie"}
OTHER: Final = {"a": "b", "b": "a", "tie": "tie"}
MAX_CHARACTERS: Final = 8000  # of the end of a text that are read
WINDOW: Final = 120  # characters before a statement in which it may be denied

Kind = Literal["explicit", "overall", "aspect", "excluded"]


@dataclass(frozen=True)
class Statement:
    """One statement: a, b or tie. Of kind `excluded` the value is the answer that is *not* chosen."""

    kind: Kind
    value: str
    place: int


def read_comparison(text: str, allow_tie: bool = True) -> tuple[str | None, str]:
    """`a`, `b` or `tie`, and why there is none. `text` has no reasoning trace, and straight apostrophes.

    Without `allow_tie` an answer that is excluded names the other one: "not a" is b.
    """
    marked = _mark(text[-MAX_CHARACTERS:])
    found = sorted(_explicit(marked) + _sentences(marked), key=lambda one: one.place)
    explicit = [one for one in found if one.kind == "explicit"]
    if explicit:
        later = [one for one in found if one.kind == "overall" and one.place > explicit[-1].place]
        if later and REVISION.search(marked[explicit[-1].place : later[-1].place]):
            return later[-1].value, ""
        return explicit[-1].value, ""
    overall = [one for one in found if one.kind == "overall"]
    aspects = [one for one in found if one.kind == "aspect" and one.value != "tie"]
    if overall:
        after_tie = {one.value for one in aspects if one.place > overall[-1].place}
        if overall[-1].value == "tie" and len(after_tie) == 1:
            return after_tie.pop(), ""
        return overall[-1].value, ""
    if aspects:
        sides = {one.value for one in aspects}
        return (sides.pop(), "") if len(sides) == 1 else (None, "each is called better in something")
    if any(one.kind == "aspect" for one in found):
        return "tie", ""
    excluded = {one.value for one in found if one.kind == "excluded"}
    if len(excluded) == 1 and not allow_tie:
        return OTHER[excluded.pop()], ""
    return None, "no verdict" if re.search(f"{SIDE}|{BOTH}", marked) else "names neither answer"


def _mark(text: str) -> str:
    """The text in lower case with every mention of an answer replaced by its stand-in."""
    marked = re.sub(r"[*`]+|__+|(?m:^[ \t]*[#>]+ ?)", "", text)
    for pattern, replacement in MENTIONS:
        marked = pattern.sub(replacement, marked)
    marked = re.sub(r"[ \t]+", " ", marked.lower())
    marked = CHINESE_THAN.sub(_than_in_chinese, marked)
    marked = re.sub(rf"({SIDE})\s*(?:,?\s*or|/|\|)\s*(?:{SIDE}(?:\s*(?:,|or|,\s*or)\s*[{TIED}{A}{B}])*)", BOTH, marked)
    marked = re.sub(rf"{MARK}[{A}{B}{TIED}](?:\s*(?:,|or|,\s*or|/)\s*{MARK}[{A}{B}{TIED}])+", BOTH, marked)
    marked = re.sub(rf"{SIDE}\s*(?:and|&|vs\.?|versus|与|和|、)\s*{SIDE}", BOTH, marked)
    words = r"compared (?:to|with)|in comparison (?:to|with)|relative to|unlike|versus|vs\.?|rather than|instead of"
    compared = rf"(?:{words}) {SIDE}"
    return re.sub(rf",?\s*{compared}\s*,|^{compared}\s*,", " ", marked)


def _than_in_chinese(found: re.Match[str]) -> str:
    """ "A比B好" as "A更好": the answer that the other one is compared with is left out."""
    return found[1] + ("更好" if found["good"] else "更差" if found["bad"] else "")


def _explicit(marked: str) -> list[Statement]:
    """Marked verdicts, "Winner: B", and lines that hold nothing but an answer's name."""
    found = []
    for match in re.finditer(rf"([^.!?\n{MARK}]{{0,60}}){MARK}([{A}{B}{TIED}])", marked):
        denied = re.match(
            r"\s*(?:is|was) (?:not|no longer)\b|\s*(?:isn|wasn)'t\b", marked[match.end() : match.end() + 20]
        )
        if not denied and not _negates(_last_clause(match[1], r"[,:;]|\bbut\b")) and not HEDGE.search(match[1]):
            found.append(Statement("explicit", VALUES[match[2]], match.end()))
    for match in EXPLICIT_NAMES.finditer(marked):
        value = (match["value"] or match["chinese"]).strip()
        side = VALUES.get(value[0]) or ("tie" if TIE_VALUE.match(value) else None)
        if side:
            found.append(Statement("explicit", side, match.end()))
    if whole := re.fullmatch(r"\W*(?:a )?(?:tie|draw|equal|c)\W*", marked):
        found.append(Statement("explicit", "tie", whole.end()))
    lines = [one for one in re.finditer(r"[^\n]+", marked) if one[0].strip()]
    bare = [(one, one[0].strip(" \t.!\"'()[]{}-•")) for one in lines]
    bare = [(one, name) for one, name in bare if name in (A, B)]
    if len({name for _, name in bare}) == 1 or (bare and bare[-1][0] is lines[-1]):
        found.append(Statement("explicit", VALUES[bare[-1][1]], bare[-1][0].end()))
    return found


def _sentences(marked: str) -> list[Statement]:
    found = []
    plain = re.sub(r"\b(e\.g|i\.e|vs|etc|no)\.", lambda match: match[1].replace(".", " ") + " ", marked)
    plain = plain if len(plain) == len(marked) else marked
    for match in re.finditer(r"[^.!?;\n。！？；]+[.!?;。！？；]?", plain):
        sentence = match[0]
        if sentence.rstrip().endswith(("?", "？")):
            continue
        kept = _without_hedge(sentence)
        if not kept:
            continue
        kept = _without_concessions(kept)
        found += [
            Statement(kind, value, match.start() + place)
            for kind, value, place in _statements(kept if kept.strip(" ,.") else sentence)
        ]
    return found


def _without_hedge(sentence: str) -> str:
    """What follows a hedge, in the same places: of "some may prefer a, but b is better" only "but b is better"."""
    hedge = HEDGE.search(sentence)
    if hedge is None:
        return sentence
    end = sentence.find(",", hedge.end()) + 1 if CONCEDED.match(sentence) else 0
    resumed = RESUMED.search(sentence, hedge.end())
    start = end or (resumed.start() if resumed else 0)
    return " " * start + sentence[start:] if start else ""


def _without_concessions(sentence: str) -> str:
    """The sentence without clauses that concede or suppose something: "although b is shorter", "if I had to choose"."""
    opening = r"(?:although|though|even though|even if|while|whilst|whereas|despite|if|虽然|尽管)\b"
    kept = re.sub(rf"^(\W{{0,9}}(?:however|still|overall|but|so|and)?\W{{0,9}}){opening}[^,]*,", r"\1", sentence)
    return re.sub(r"[,(]?\s*\b(?:although|though|even though|while|whilst|whereas|despite)\b[^,]*", "", kept)


def _statements(sentence: str) -> list[tuple[Kind, str, int]]:
    if re.search(r"\bneither\b|\bnor\b", sentence):
        better = re.search(r"\bneither\b.*\b(?:better|worse|superior|preferable|wins?|stands? out)\b", sentence)
        return [("overall", "tie", better.end())] if better else []
    found: list[tuple[Kind, str, int]] = []
    for pattern, kind, wins in _RELATIONS:
        for match in pattern.finditer(sentence):
            before = _last_clause(sentence[max(0, match.start() - WINDOW) : match.start()], r"[,;]|\b(?:but|so|and)\b")
            if (
                _negates(_last_clause(match["gap"]))
                or DENIED.search(before)
                or _RELATIVE.match(match["gap"])
                or _IN_NO_WAY.match(sentence, match.end("word"))
            ):
                continue
            own = VALUES[match["side"]]
            aspect = kind == "aspect" or bool(BETTER_IN_ONE_ASPECT.match(sentence, match.end("word")))
            found.append(("aspect" if aspect else "overall", own if wins else OTHER[own], match.end("word")))
    if len({value for _, value, _ in found}) > 1 and re.search(r"\bor\b", sentence[found[0][2] : found[-1][2]]):
        return []
    for match in _PREFERRED.finditer(sentence):
        if re.search(r"\b(?:not|than|over|rather|instead of|against)\s*$", match["gap"].rstrip()):
            continue
        own, negated = VALUES[match["side"]], _negates(sentence[max(0, match.start() - 24) : match.start()])
        worse = bool(re.search(r"\b(?:worse|worst|weaker|inferior)\b", match[0]))
        found.append(
            ("excluded", own, match.end()) if negated else ("overall", OTHER[own] if worse else own, match.end())
        )
    for match in (found_side for pattern in _SIDE_FIRST for found_side in pattern.finditer(sentence)):
        found.append(("overall", VALUES[match["side"]], match.end("side")))
    for match in _NOT_CHOSEN.finditer(sentence):
        found.append(("excluded", VALUES[match["side"]], match.end()))
    for match in _ORDER.finditer(sentence):
        first = VALUES[match["side"]]
        value = "tie" if match["sign"][0] in "=≈~" else first if match["sign"][0] in ">≻" else OTHER[first]
        found.append(("overall", value, match.end()))
    for match in TIE.finditer(sentence):
        if not _negates(sentence[max(0, match.start() - 24) : match.start()]):
            found.append(("aspect" if match["aspect"] else "overall", "tie", match.end()))
    return found or _only_one_named(sentence)


def _only_one_named(sentence: str) -> list[tuple[Kind, str, int]]:
    """A short sentence that names one answer and says nothing of it: "I think (b)", "so b it is"."""
    named = re.findall(SIDE, sentence)
    words = re.findall(r"[a-z']+", sentence)
    if (
        len(named) == 1
        and not re.search(rf"[{BOTH}\d]", sentence)
        and all(FILLER_WORD.fullmatch(word) for word in words)
    ):
        return [("overall", VALUES[named[0]], sentence.index(named[0]) + 1)]
    concluded = re.search(rf"(?:\b(?:so|therefore|thus|hence|but|then)\b[,:]?\s*)({SIDE})(?:\s+it is)?\W*$", sentence)
    return [("overall", VALUES[concluded[1]], concluded.end())] if concluded else []


def _negates(words: str) -> bool:
    return NEGATION.search(re.sub(r"\bnot only\b", "", words)) is not None


def _last_clause(words: str, ends: str = r",|\b(?:and|but|so|because|since|that|which|who|as)\b") -> str:
    return re.split(ends, words)[-1]


_GAP: Final = rf"(?P<gap>[^{A}{B}{BOTH}{MARK}]{{0,80}}?)"
_RELATIONS: Final[tuple[tuple[re.Pattern[str], Kind, bool], ...]] = (
    (re.compile(rf"(?P<side>{SIDE}){_GAP}(?P<word>{NOT_AS_GOOD})"), "overall", False),
    (re.compile(rf"(?P<side>{SIDE}){_GAP}(?P<word>{BETTER})"), "overall", True),
    (re.compile(rf"(?P<side>{SIDE}){_GAP}(?P<word>{WORSE})"), "overall", False),
    (re.compile(rf"(?P<side>{SIDE}){_GAP}(?P<word>{MORE})"), "aspect", True),
    (re.compile(rf"(?P<side>{SIDE}){_GAP}(?P<word>{ASPECT_WORSE})"), "aspect", False),
)
_IN_NO_WAY: Final = re.compile(r"\s+(?:in no way|in nothing|nowhere)\b")
_SIDE_FIRST: Final = tuple(map(re.compile, (SAID, OPENING, RANKED, RANKS_FIRST, CHOSEN_OVER, LABELLED)))
_RELATIVE: Final = re.compile(r"\s*,?\s*which\b")
_PREFERRED: Final = re.compile(rf"(?:{PREFER}){_GAP}(?P<side>{SIDE})")
_NOT_CHOSEN: Final = re.compile(rf"\b(?:not|isn't|rather than|instead of)\s+(?P<side>{SIDE})")
_ORDER: Final = re.compile(rf"(?P<side>{SIDE})\s*(?P<sign>[>≻]+|[<≺]+|=+|≈|~)\s*{SIDE}")
