"""What a data set is like in numbers: how many records, how long they are in tokens, how much is learnt from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zhenlong.data.templates import Sample, Template
from zhenlong.records import Demonstration, Document, Ranking, Rating, Record, Task, to_json

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Profile:
    """`tokens` maps each of `QUANTILES` to a length; `scored` is the share of all tokens that is learnt from."""

    kind: str
    records: int
    total_tokens: int
    tokens: dict[float, int]
    scored: float


def profile(records: Sequence[Record], template: Template) -> Profile:
    """Counts and lengths of records of one kind, as `template` renders them.

    A record's length is that of its prompt, once, and all its responses. Of a task only the prompt is known, so nothing
    is scored; of a document everything is.
    """
    if not records:
        raise ValueError("records: expected at least one, got none")
    pairs = [_tokens(record, template) for record in records]
    lengths = np.array([length for length, _ in pairs])
    values = np.quantile(lengths, QUANTILES, method="inverted_cdf")
    quantiles = {q: int(value) for q, value in zip(QUANTILES, values, strict=True)}
    scored = sum(scored for _, scored in pairs) / max(1, int(lengths.sum()))
    return Profile(type(records[0]).__name__.lower(), len(records), int(lengths.sum()), quantiles, scored)


def fingerprint(records: Iterable[Record]) -> str:
    """A SHA-256 of the records and their order, for caches that hold what was computed from them."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(to_json(record), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _tokens(record: Record, template: Template) -> tuple[int, int]:
    """Tokens of a record, and how many of them are scored."""
    match record:
        case Document(text=text):
            length = len(template.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            return length, length
        case Demonstration(messages=messages):
            samples: list[Sample] = template.samples(messages)
            return sum(len(ids) for ids, _ in samples), sum(sum(scored) for _, scored in samples)
        case Ranking(prompt=prompt, responses=responses):
            said = sum(len(template.response(prompt, response)) for response in responses)
            return len(template.prompt(prompt)) + said, said
        case Rating(prompt=prompt, response=response):
            said = len(template.response(prompt, response))
            return len(template.prompt(prompt)) + said, said
        case Task(prompt=prompt):
            return len(template.prompt(prompt)), 0
