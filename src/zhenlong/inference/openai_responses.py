"""What an OpenAI-compatible server answered: its JSON, read into replies. What does not fit is a `ValueError`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeGuard

from zhenlong.guarded_call import well_formed
from zhenlong.inference.requests import GeneratedOutput

MAX_COUNT: Final = 1 << 53
MIN_LOG_PROB: Final = -9999.0  # what servers write for a log-probability of minus infinity, which JSON cannot say
REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")  # DeepSeek and vLLM, OpenRouter, Ollama
FAILED_REASONS: Final = ("content_filter", "error")  # values of finish_reason that are no end of an answer


@dataclass(frozen=True)
class ContinuationScore:
    """The log-probability of a given text after its context, in nats, over `num_tokens` tokens."""

    log_prob: float
    num_tokens: int


@dataclass(frozen=True)
class RequestFailure:
    """Why there is no answer, after all retries: to be recorded as failed and never as wrong."""

    reason: str
    unsupported_parameter: str = ""  # the request's parameter that the server does not take, where it named one


def token_usage(payload: Any) -> tuple[int, int] | None:
    """The prompt's and the answers' tokens that the server counted; None where it did not."""
    counts = payload.get("usage") if isinstance(payload, dict) else None
    if not isinstance(counts, dict):
        return None
    prompt, generated = counts.get("prompt_tokens"), counts.get("completion_tokens", 0)
    return (prompt, generated) if _is_count(prompt) and _is_count(generated) else None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT


def parse_chat_completions(payload: Any) -> list[GeneratedOutput] | RequestFailure:
    """The answers in the response of `/chat/completions`, in the order of their index."""
    choices = _choices(payload)
    if reason := _withheld(choices):
        return RequestFailure(reason)
    return [_parse_chat_choice(choice, _tokens_of_only_choice(payload, len(choices))) for choice in choices]


def parse_completions(payload: Any) -> list[GeneratedOutput] | RequestFailure:
    """The answers in the response of `/completions`, in the order of their index."""
    choices = _choices(payload)
    if reason := _withheld(choices):
        return RequestFailure(reason)
    return [_parse_text_choice(choice, _tokens_of_only_choice(payload, len(choices))) for choice in choices]


def parse_continuation_score(payload: Any, prompt: str, continuation: str) -> ContinuationScore:
    """The score of `continuation`, the end of `prompt`, in a response with `echo` and one generated token.

    The tokens are followed from the end, because servers differ in what they put before the prompt. A token that
    begins in the context and ends in the continuation counts as part of the continuation. Without a context the
    prompt's first token has no log-probability, and is left out of sum and count.
    """
    tokens, log_probs = _echoed_log_probs(payload)
    token_counts = token_usage(payload)
    generated = token_counts[1] if token_counts else 1
    tokens, log_probs = tokens[: len(tokens) - generated], log_probs[: len(log_probs) - generated]
    token_bytes = [_bytes(token) for token in tokens]
    continuation_bytes = continuation.encode()
    start, length = len(token_bytes), 0
    while start and length < len(continuation_bytes):
        start -= 1
        length += len(token_bytes[start])
    if not b"".join(token_bytes[start:]).endswith(continuation_bytes):
        start = _start_by_text_offset(payload, prompt, continuation)
    values = [float(value) for value in log_probs[start : len(token_bytes)] if value is not None]
    if not values or any(math.isnan(value) for value in values):
        raise ValueError("the server gave no log-probability of the prompt's tokens")
    return ContinuationScore(sum(values), len(values))


def _start_by_text_offset(payload: Any, prompt: str, continuation: str) -> int:
    """The first token of the continuation by the server's `text_offset`, where tokens do not spell the text."""
    offsets = _choices(payload)[0]["logprobs"].get("text_offset")
    start = len(prompt) - len(continuation)
    if not isinstance(offsets, list) or start not in offsets:
        raise ValueError("the echoed tokens do not spell the prompt")
    return offsets.index(start)


def _echoed_log_probs(payload: Any) -> tuple[list[str], list[float | None]]:
    logs = _choices(payload)[0].get("logprobs")
    if not isinstance(logs, dict) or not isinstance(logs.get("tokens"), list):
        raise ValueError("the server gave no log-probabilities")
    tokens, log_probs = logs["tokens"], logs.get("token_logprobs")
    if not isinstance(log_probs, list) or len(log_probs) != len(tokens):
        raise ValueError("logprobs: expected one number for each token")
    return tokens, log_probs


def _bytes(token: str) -> bytes:
    """A token's bytes; part of a character comes as `bytes:\\xe2\\x80` from some servers."""
    if token.startswith("bytes:\\x"):
        return bytes(int(pair, 16) for pair in re.findall(r"\\x([0-9a-fA-F]{2})", token))
    return token.encode()


def _choices(payload: Any) -> list[dict[str, Any]]:
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("choices: expected a list of answers")
    return sorted(choices, key=lambda choice: choice.get("index") or 0)


def _withheld(choices: Sequence[Mapping[str, Any]]) -> str:
    """Why an answer was not given by the model itself: a filter or an error ended it. Empty if all were."""
    reasons = [str(choice["finish_reason"]) for choice in choices if choice.get("finish_reason") in FAILED_REASONS]
    return f"the server ended it (finish_reason {reasons[0]})" if reasons else ""


def _tokens_of_only_choice(payload: Any, num_choices: int) -> int | None:
    token_counts = token_usage(payload)
    return token_counts[1] if token_counts and num_choices == 1 else None


def _parse_chat_choice(choice: Mapping[str, Any], num_tokens: int | None) -> GeneratedOutput:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("message: expected the assistant's message")
    content = message.get("content")
    if isinstance(content, list):
        texts = [
            part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | dict)
        ]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is None:
        content = message.get("refusal") or ""
    if not isinstance(content, str):
        raise ValueError(f"content: expected text, got {type(content).__name__}")
    logs = choice.get("logprobs")
    entries = (logs.get("content") or []) if isinstance(logs, dict) else []
    values = [float(entry["logprob"]) for entry in entries if isinstance(entry, dict) and "logprob" in entry]
    top = [{one["token"]: one["logprob"] for one in reversed(entry.get("top_logprobs") or [])} for entry in entries]
    reasoning = next(
        (well_formed(message[name]) for name in REASONING_FIELDS if isinstance(message.get(name), str)), ""
    )
    return replace(_build_response(content, choice, num_tokens, values=values, top=top), reasoning=reasoning)


def _parse_text_choice(choice: Mapping[str, Any], num_tokens: int | None) -> GeneratedOutput:
    text = choice.get("text")
    if not isinstance(text, str):
        raise ValueError("text: expected the completion")
    logs = choice.get("logprobs") if isinstance(choice.get("logprobs"), dict) else {}
    assert isinstance(logs, dict)
    values = [float(value) for value in logs.get("token_logprobs") or [] if value is not None]
    top = [one or {} for one in logs.get("top_logprobs") or []]
    return _build_response(text, choice, num_tokens, values=values, top=top)


def _build_response(
    text: str,
    choice: Mapping[str, Any],
    num_tokens: int | None,
    *,
    values: Sequence[float],
    top: Sequence[Mapping[str, Any]],
) -> GeneratedOutput:
    if not isinstance(text, str) or any(math.isnan(value) for value in values):
        raise ValueError("expected a text, and numbers as log-probabilities")
    top_log_probs = (
        {well_formed(token): max(float(value), MIN_LOG_PROB) for token, value in place.items()} for place in top
    )
    return GeneratedOutput(
        well_formed(text),
        log_prob=max(sum(values), MIN_LOG_PROB * len(values)) if values else None,
        num_tokens=num_tokens if num_tokens is not None else (len(values) or None),
        truncated=choice.get("finish_reason") == "length",
        top_log_probs=tuple(top_log_probs),
    )
