"""What a model is asked, what it gives back, and the protocol of whatever answers.

Requests ask for text to continue, or for the probability of texts.

A request is a value: two equal ones have one answer, which is kept under the hash of the request and of the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from zhenlong.guarded_call import well_formed
from zhenlong.records import Message, Messages

RequestPrompt = str | Messages


@dataclass(frozen=True)
class GenerateRequest:
    """Continue a text, or answer a conversation, `n` times."""

    prompt: RequestPrompt
    max_tokens: int = 100
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int = 0  # 0 where the temperature is 0: nothing is drawn
    top_log_probs: int = 0


@dataclass(frozen=True)
class ScoreRequest:
    """How probable is each continuation after the context?"""

    context: RequestPrompt
    continuations: tuple[str, ...]


@dataclass(frozen=True)
class ScoreTextRequest:
    """How probable is a text of any length, from its first token on?"""

    text: str


Request = GenerateRequest | ScoreRequest | ScoreTextRequest


@dataclass(frozen=True)
class GeneratedOutput:
    """One generated answer. None: the model, or whoever recorded the answer, did not say."""

    text: str
    log_prob: float | None = None  # of all its tokens, in nats, at temperature 1
    num_tokens: int | None = None
    truncated: bool = False  # ended at the token limit
    top_log_probs: tuple[Mapping[str, float], ...] = ()  # for each token the likeliest ones, where they were asked for
    turns: tuple[str, ...] = ()  # the answers to an instance's further turns
    sampled_log_prob: float | None = None  # of all its tokens, in the distribution they were sampled from
    reasoning: str = ""  # what an endpoint sent as reasoning beside the text


@dataclass(frozen=True)
class RequestCost:
    """What answering took, measured. Requests of one batch of `batch_size` share its seconds by tokens."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    flops: float | None = None
    peak_memory: int | None = None  # bytes
    batch_size: int = 1  # requests that were timed together


@dataclass(frozen=True)
class RequestResult:
    """What came of a request. `log_probs` and `tokens` are in the order of the continuations (one for a text).

    `prompt` is what the model read, where that is not the request's own text; `failed` says why there is no answer.
    """

    outputs: tuple[GeneratedOutput, ...] = ()
    log_probs: tuple[float, ...] = ()
    num_tokens: tuple[int, ...] = ()
    prompt: str = ""
    failed: str = ""
    cost: RequestCost = field(default_factory=RequestCost)


IndexedResults = list[tuple[int, RequestResult]]  # places among the requests, and their answers


class Backend(Protocol):
    """A model that answers requests.

    `fingerprint` names everything about it that changes an answer: weights, configuration, tokenizer, template, dtype.
    `as_chat` tells that it takes texts as a user's turn only. `facts` are kept with the evaluation.
    """

    name: str
    fingerprint: str
    as_chat: bool

    @property
    def context_length(self) -> int | None:
        """The most tokens of prompt and answer together; None where it is not known."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a reader of the numbers has to know, such as the chat template and the start token."""
        ...

    def count_tokens(self, prompt: RequestPrompt) -> int:
        """The tokens of a prompt."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[IndexedResults]:
        """Answers, batch by batch, in any order."""
        ...

    def score(self, requests: Sequence[ScoreRequest | ScoreTextRequest]) -> Iterator[IndexedResults]:
        """Log-probabilities, batch by batch, in any order. Raises `UserError` where the model gives none."""
        ...


def cache_key(fingerprint: str, request: Request) -> str:
    """The name under which the answer of a model, known by its fingerprint, is kept: 32 hexadecimal digits."""
    fields = {
        "kind": type(request).__name__,
        **{name: _to_jsonable_message(value) for name, value in vars(request).items()},
    }
    text = json.dumps([fingerprint, fields], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def result_to_json(result: RequestResult) -> str:
    """An answer as one line of JSON; `answer_from_json` is its inverse."""
    row = {name: value for name, value in asdict(result).items() if value not in ((), "")}
    row["outputs"] = [
        {k: v for k, v in output.items() if k == "text" or v not in (None, (), False, "")}
        for output in row.get("outputs", ())
    ]
    return well_formed(json.dumps(row, ensure_ascii=False))


def result_from_json(text: str) -> RequestResult:
    """The answer that a line describes. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    row: dict[str, Any] = json.loads(text)
    outputs = tuple(_output(one) for one in row.pop("outputs", ()))
    cost = RequestCost(**row.pop("cost"))
    lists: dict[str, Any] = {name: tuple(row.pop(name, ())) for name in ("log_probs", "num_tokens")}
    return RequestResult(outputs=outputs, cost=cost, **lists, **row)


def _output(row: Mapping[str, Any]) -> GeneratedOutput:
    known = dict(row)
    for name in ("top_log_probs", "turns"):
        if name in known:
            known[name] = tuple(known[name])
    return GeneratedOutput(**known)


def _to_jsonable_message(value: Any) -> Any:
    """Messages as lists of role, content and calls."""
    if isinstance(value, tuple) and value and isinstance(value[0], Message):
        return [[message.role, message.content, list(message.tool_calls)] for message in value]
    return value
