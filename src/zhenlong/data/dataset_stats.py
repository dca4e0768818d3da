"""Statistics of a data set's text: lengths, formatting, vocabulary, duplicates, and what preferences favour."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zhenlong.data.duplicates import NEAR_DUPLICATE_THRESHOLD, exact_duplicates, near_duplicates, normalised_words
from zhenlong.data.message_parsing import message_text
from zhenlong.records import Demonstration, Document, Messages, Ranking, Rating, Record, Task

HISTOGRAM_BINS: Final = 30  # bins of a histogram
MAX_EXAMPLES: Final = 5
EXAMPLE_CHARACTERS: Final = 600  # characters of an example
_LIST: Final = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_HEADING: Final = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_CODE: Final = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
BatchTokenCounter = Callable[[Sequence[str]], list[int]]  # number of tokens of each text


@dataclass(frozen=True)
class RecordText:
    """A record as text: everything before its last response, its responses, and its number of turns."""

    prompt: str
    responses: tuple[str, ...]
    turns: int


@dataclass(frozen=True)
class LengthStats:
    """A distribution of counts. `histogram` has (from, to, number) per bin; the last bin holds the longest 1 %."""

    count: int
    mean: float
    p10: float
    median: float
    p90: float
    maximum: int
    histogram: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class FormatStats:
    """Fractions of responses with a list (two or more items), a heading, or a fenced code block."""

    list_fraction: float
    heading_fraction: float
    code_fraction: float


@dataclass(frozen=True)
class DuplicateStats:
    """Numbers of duplicates beyond the first: exact, near (exact ones included), and repeated prompts.

    `examples` are near duplicates as (location, location, similarity, text, text), the least similar first.
    """

    exact: int
    near: int
    repeated_prompts: int
    examples: tuple[tuple[str, str, float, str, str], ...] = ()


@dataclass(frozen=True)
class PreferenceStats:
    """What pairs favour: how much longer the chosen response is, and how often the longer response was chosen.

    Pairs of equal length count half in `longer_win_rate`.
    """

    pairs: int
    length_gap_characters: float
    length_gap_words: float
    median_length_gap_words: float
    longer_win_rate: float
    length_gap_tokens: float | None = None


@dataclass(frozen=True)
class DatasetStats:
    """The statistics of one source. Lengths in tokens are None without a tokenizer, as is what a record kind lacks."""

    kind: str
    records: int
    turns: LengthStats | None
    prompt_characters: LengthStats | None
    prompt_tokens: LengthStats | None
    response_characters: LengthStats | None
    response_tokens: LengthStats | None
    format: FormatStats | None
    word_count: int
    vocab_size: int
    common_words: tuple[tuple[str, int], ...]
    duplicates: DuplicateStats
    preference: PreferenceStats | None
    desirable_fraction: float | None


def dataset_stats(
    located_records: Sequence[tuple[str, Record]],
    count_tokens: BatchTokenCounter | None = None,
    near_duplicate_threshold: float = NEAR_DUPLICATE_THRESHOLD,
) -> DatasetStats:
    """The statistics of records of one kind, given with their locations."""
    records = [record for _, record in located_records]
    record_texts = [record_text(record) for record in records]
    prompts = [one.prompt for one in record_texts if one.prompt]
    responses = [text for one in record_texts for text in one.responses]
    words = Counter(
        word for one in record_texts for text in (one.prompt, *one.responses) for word in normalised_words(text)
    )
    labels = [record.desirable for record in records if isinstance(record, Rating)]
    turn_counts = [one.turns for one in record_texts if one.turns]
    return DatasetStats(
        kind=type(records[0]).__name__.lower(),
        records=len(records),
        turns=length_stats(turn_counts) if turn_counts else None,
        prompt_characters=length_stats([len(text) for text in prompts]) if prompts else None,
        prompt_tokens=length_stats(count_tokens(prompts)) if prompts and count_tokens else None,
        response_characters=length_stats([len(text) for text in responses]) if responses else None,
        response_tokens=length_stats(count_tokens(responses)) if responses and count_tokens else None,
        format=format_stats(responses) if responses else None,
        word_count=sum(words.values()),
        vocab_size=len(words),
        common_words=tuple(words.most_common(20)),
        duplicates=duplicate_stats(located_records, record_texts, near_duplicate_threshold),
        preference=preference_stats([one for one in records if isinstance(one, Ranking)], count_tokens),
        desirable_fraction=sum(labels) / len(labels) if labels else None,
    )


def record_text(record: Record) -> RecordText:
    """A record as text; in a demonstration every assistant turn is a response."""
    match record:
        case Document(text=text):
            return RecordText("", (text,), 0)
        case Demonstration(messages=messages):
            last = max(place for place, one in enumerate(messages) if one.role == "assistant")
            answers = tuple(message_text(one) for one in messages if one.role == "assistant")
            return RecordText(_messages_text(messages[:last]), answers, _count_turns(messages))
        case Ranking(prompt=prompt, responses=responses):
            return RecordText(_messages_text(prompt), responses, _count_turns(prompt) + 1)
        case Rating(prompt=prompt, response=response):
            return RecordText(_messages_text(prompt), (response,), _count_turns(prompt) + 1)
        case Task(prompt=prompt):
            return RecordText(_messages_text(prompt), (), _count_turns(prompt))


def length_stats(counts: Sequence[int]) -> LengthStats:
    """The distribution of a non-empty list of counts."""
    values = np.asarray(counts, dtype=float)
    p10, median, p90, p99 = (float(np.quantile(values, q, method="inverted_cdf")) for q in (0.1, 0.5, 0.9, 0.99))
    top = max(p99, 1.0)
    edges = np.linspace(0, top + 1, min(HISTOGRAM_BINS, int(top) + 1) + 1)
    found, _ = np.histogram(np.minimum(values, top), edges)
    bins = tuple((float(a), float(b), int(n)) for a, b, n in zip(edges, edges[1:], found, strict=False))
    return LengthStats(len(values), float(values.mean()), p10, median, p90, int(values.max()), bins)


def format_stats(responses: Sequence[str]) -> FormatStats:
    """How the responses are formatted."""
    count = len(responses)
    listed = sum(len(_LIST.findall(text)) > 1 for text in responses)
    headed, coded = (sum(bool(pattern.search(text)) for text in responses) for pattern in (_HEADING, _CODE))
    return FormatStats(listed / count, headed / count, coded / count)


def duplicate_stats(
    located_records: Sequence[tuple[str, Record]],
    record_texts: Sequence[RecordText],
    near_duplicate_threshold: float = NEAR_DUPLICATE_THRESHOLD,
) -> DuplicateStats:
    """Records whose whole text, or whose prompt, occurred before."""
    full_texts = ["\n".join((one.prompt, *one.responses)) for one in record_texts]
    near_groups = near_duplicates(full_texts, near_duplicate_threshold)
    examples = [
        (
            located_records[i][0],
            located_records[j][0],
            similarity,
            *_around_first_difference(full_texts[i], full_texts[j]),
        )
        for i, j, similarity in sorted(near_groups.pairs, key=lambda pair: pair[2])[:MAX_EXAMPLES]
    ]
    prompts = exact_duplicates([one.prompt for one in record_texts if one.prompt]).num_duplicates
    return DuplicateStats(
        exact_duplicates(full_texts).num_duplicates, near_groups.num_duplicates, prompts, tuple(examples)
    )


def _around_first_difference(a: str, b: str) -> tuple[str, str]:
    """The excerpts where two texts start to differ, with some context before and after."""
    pairs = enumerate(zip(a, b, strict=False))
    start = max(0, next((place for place, (x, y) in pairs if x != y), min(len(a), len(b))) - EXAMPLE_CHARACTERS // 4)
    mark = "…" if start else ""
    return mark + a[start : start + EXAMPLE_CHARACTERS], mark + b[start : start + EXAMPLE_CHARACTERS]


def preference_stats(
    rankings: Iterable[Ranking], count_tokens: BatchTokenCounter | None = None
) -> PreferenceStats | None:
    """What the pairs of rankings favour; None without pairs."""
    texts = [(one.responses[i], one.responses[j]) for one in rankings for i, j in one.pairs()]
    if not texts:
        return None
    characters = np.array([len(chosen) - len(rejected) for chosen, rejected in texts])
    words = np.array([len(chosen.split()) - len(rejected.split()) for chosen, rejected in texts])
    token_counts = count_tokens([text for pair in texts for text in pair]) if count_tokens else None
    gap = None if token_counts is None else float(np.mean(token_counts[::2])) - float(np.mean(token_counts[1::2]))
    longer = float(np.mean((characters > 0) + 0.5 * (characters == 0)))
    return PreferenceStats(
        len(texts), float(characters.mean()), float(words.mean()), float(np.median(words)), longer, gap
    )


def _messages_text(messages: Messages) -> str:
    return "\n\n".join(message_text(one) for one in messages)


def _count_turns(messages: Messages) -> int:
    """Number of turns, without the system turn."""
    return sum(one.role != "system" for one in messages)
