"""What a data set is like in numbers: how many records, how long they are in tokens, how much is learnt from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zhenlong.data.chat_templates import ChatTemplate, TokenizedExample
from zhenlong.records import Demonstration, Document, Ranking, Rating, Record, Task, to_json

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class TokenStats:
    """`length_quantiles` maps each of `QUANTILES` to a length; `trained_fraction` is that of all tokens."""

    kind: str
    records: int
    total_tokens: int
    length_quantiles: dict[float, int]
    trained_fraction: float


def token_stats(records: Sequence[Record], template: ChatTemplate) -> TokenStats:
    """Counts and lengths of records of one kind, as `template` renders them.

    A record's length is that of its prompt, once, and all its responses. Of a task only the prompt is known, so nothing
    is scored; of a document everything is.
    """
    if not records:
        raise ValueError("records: expected at least one, got none")
    pairs = [_count_tokens(record, template) for record in records]
    lengths = np.array([length for length, _ in pairs])
    values = np.quantile(lengths, QUANTILES, method="inverted_cdf")
    quantiles = {q: int(value) for q, value in zip(QUANTILES, values, strict=True)}
    scored = sum(scored for _, scored in pairs) / max(1, int(lengths.sum()))
    return TokenStats(type(records[0]).__name__.lower(), len(records), int(lengths.sum()), quantiles, scored)


def fingerprint(records: Iterable[Record]) -> str:
    """A SHA-256 of the records and their order, for caches that hold what was computed from them."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(to_json(record), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _count_tokens(record: Record, template: ChatTemplate) -> tuple[int, int]:
    """Tokens of a record, and how many of them are scored."""
    match record:
        case Document(text=text):
            length = len(template.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            return length, length
        case Demonstration(messages=messages):
            examples: list[TokenizedExample] = template.training_examples(messages)
            return sum(len(ids) for ids, _ in examples), sum(sum(scored) for _, scored in examples)
        case Ranking(prompt=prompt, responses=responses):
            response_tokens = sum(len(template.encode_response(prompt, response)) for response in responses)
            return len(template.encode_prompt(prompt)) + response_tokens, response_tokens
        case Rating(prompt=prompt, response=response):
            response_tokens = len(template.encode_response(prompt, response))
            return len(template.encode_prompt(prompt)) + response_tokens, response_tokens
        case Task(prompt=prompt):
            return len(template.encode_prompt(prompt)), 0
