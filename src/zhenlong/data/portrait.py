"""What a data set is like, as far as its text tells: lengths, form, vocabulary, copies, and what preferences prefer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zhenlong.data.chats import spoken
from zhenlong.data.duplicates import THRESHOLD, exact, near, words_of
from zhenlong.records import Demonstration, Document, Messages, Ranking, Rating, Record, Task

BINS: Final = 30  # of a histogram
EXAMPLES: Final = 5
SHOWN: Final = 600  # characters of an example
_LIST: Final = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_HEADING: Final = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_CODE: Final = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
Tokens = Callable[[Sequence[str]], list[int]]  # how many tokens each text has


@dataclass(frozen=True)
class Said:
    """A record as text: what comes before its last response, its responses, and how many turns it has."""

    prompt: str
    responses: tuple[str, ...]
    turns: int


@dataclass(frozen=True)
class Lengths:
    """A distribution of counts. `histogram` is (from, up to, how many), the last bin open for the longest 1 %."""

    n: int
    mean: float
    p10: float
    median: float
    p90: float
    longest: int
    histogram: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class Form:
    """Shares of responses with a list (two items or more), with a heading, with fenced code."""

    lists: float
    headings: float
    code: float


@dataclass(frozen=True)
class Copies:
    """Records beyond the first of a kind: word for word, nearly so (those included), and prompts that come again.

    `examples` are near copies as (place, place, similarity, text, text), those that differ most first.
    """

    exact: int
    near: int
    prompts: int
    examples: tuple[tuple[str, str, float, str, str], ...] = ()


@dataclass(frozen=True)
class Preferred:
    """What pairs prefer: how much longer the chosen response is, and how often the longer one was chosen.

    Pairs of equal length count half in `longer_wins`.
    """

    pairs: int
    gap_characters: float
    gap_words: float
    median_gap_words: float
    longer_wins: float
    gap_tokens: float | None = None


@dataclass(frozen=True)
class Portrait:
    """One source. Lengths in tokens are None without a tokenizer, and what a kind of record does not have is None."""

    kind: str
    records: int
    turns: Lengths | None
    prompt_characters: Lengths | None
    prompt_tokens: Lengths | None
    response_characters: Lengths | None
    response_tokens: Lengths | None
    form: Form | None
    words: int
    vocabulary: int
    common_words: tuple[tuple[str, int], ...]
    copies: Copies
    preferred: Preferred | None
    desirable: float | None


def portrait(
    placed: Sequence[tuple[str, Record]], tokens: Tokens | None = None, similar: float = THRESHOLD
) -> Portrait:
    """The portrait of records of one kind, each with its place; `similar` is the Jaccard similarity of near copies."""
    records = [record for _, record in placed]
    said = [said_of(record) for record in records]
    prompts = [one.prompt for one in said if one.prompt]
    responses = [text for one in said for text in one.responses]
    words = Counter(word for one in said for text in (one.prompt, *one.responses) for word in words_of(text))
    thumbs = [record.desirable for record in records if isinstance(record, Rating)]
    turned = [one.turns for one in said if one.turns]
    return Portrait(
        kind=type(records[0]).__name__.lower(),
        records=len(records),
        turns=lengths(turned) if turned else None,
        prompt_characters=lengths([len(text) for text in prompts]) if prompts else None,
        prompt_tokens=lengths(tokens(prompts)) if prompts and tokens else None,
        response_characters=lengths([len(text) for text in responses]) if responses else None,
        response_tokens=lengths(tokens(responses)) if responses and tokens else None,
        form=form(responses) if responses else None,
        words=sum(words.values()),
        vocabulary=len(words),
        common_words=tuple(words.most_common(20)),
        copies=copies(placed, said, similar),
        preferred=preferred([one for one in records if isinstance(one, Ranking)], tokens),
        desirable=sum(thumbs) / len(thumbs) if thumbs else None,
    )


def said_of(record: Record) -> Said:
    """A record as text; of a demonstration every turn of the assistant is a response."""
    match record:
        case Document(text=text):
            return Said("", (text,), 0)
        case Demonstration(messages=messages):
            last = max(place for place, one in enumerate(messages) if one.role == "assistant")
            answers = tuple(spoken(one) for one in messages if one.role == "assistant")
            return Said(_joined(messages[:last]), answers, _turns(messages))
        case Ranking(prompt=prompt, responses=responses):
            return Said(_joined(prompt), responses, _turns(prompt) + 1)
        case Rating(prompt=prompt, response=response):
            return Said(_joined(prompt), (response,), _turns(prompt) + 1)
        case Task(prompt=prompt):
            return Said(_joined(prompt), (), _turns(prompt))


def lengths(counts: Sequence[int]) -> Lengths:
    """The distribution of counts, of which there is at least one."""
    values = np.asarray(counts, dtype=float)
    p10, median, p90, p99 = (float(np.quantile(values, q, method="inverted_cdf")) for q in (0.1, 0.5, 0.9, 0.99))
    top = max(p99, 1.0)
    edges = np.linspace(0, top + 1, min(BINS, int(top) + 1) + 1)
    found, _ = np.histogram(np.minimum(values, top), edges)
    bins = tuple((float(a), float(b), int(n)) for a, b, n in zip(edges, edges[1:], found, strict=False))
    return Lengths(len(values), float(values.mean()), p10, median, p90, int(values.max()), bins)


def form(responses: Sequence[str]) -> Form:
    """How the responses are set."""
    count = len(responses)
    listed = sum(len(_LIST.findall(text)) > 1 for text in responses)
    headed, coded = (sum(bool(pattern.search(text)) for text in responses) for pattern in (_HEADING, _CODE))
    return Form(listed / count, headed / count, coded / count)


def copies(placed: Sequence[tuple[str, Record]], said: Sequence[Said], similar: float = THRESHOLD) -> Copies:
    """Records whose whole text, and prompts whose text, was there before."""
    whole = ["\n".join((one.prompt, *one.responses)) for one in said]
    nearly = near(whole, similar)
    examples = [
        (placed[i][0], placed[j][0], similarity, *_about_the_difference(whole[i], whole[j]))
        for i, j, similarity in sorted(nearly.pairs, key=lambda pair: pair[2])[:EXAMPLES]
    ]
    prompts = exact([one.prompt for one in said if one.prompt]).repeated
    return Copies(exact(whole).repeated, nearly.repeated, prompts, tuple(examples))


def _about_the_difference(a: str, b: str) -> tuple[str, str]:
    """Where two texts begin to differ, with some of what comes before and after."""
    pairs = enumerate(zip(a, b, strict=False))
    start = max(0, next((place for place, (x, y) in pairs if x != y), min(len(a), len(b))) - SHOWN // 4)
    mark = "…" if start else ""
    return mark + a[start : start + SHOWN], mark + b[start : start + SHOWN]


def preferred(rankings: Iterable[Ranking], tokens: Tokens | None = None) -> Preferred | None:
    """What the pairs of rankings prefer; None where there is none."""
    texts = [(one.responses[i], one.responses[j]) for one in rankings for i, j in one.pairs()]
    if not texts:
        return None
    characters = np.array([len(chosen) - len(rejected) for chosen, rejected in texts])
    words = np.array([len(chosen.split()) - len(rejected.split()) for chosen, rejected in texts])
    counted = tokens([text for pair in texts for text in pair]) if tokens else None
    gap = None if counted is None else float(np.mean(counted[::2])) - float(np.mean(counted[1::2]))
    longer = float(np.mean((characters > 0) + 0.5 * (characters == 0)))
    return Preferred(len(texts), float(characters.mean()), float(words.mean()), float(np.median(words)), longer, gap)


def _joined(messages: Messages) -> str:
    return "\n\n".join(spoken(one) for one in messages)


def _turns(messages: Messages) -> int:
    """Turns without the system's."""
    return sum(one.role != "system" for one in messages)
