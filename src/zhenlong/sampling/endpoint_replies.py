"""What an OpenAI-compatible server answered: its JSON, read into replies. What does not fit is a `ValueError`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

FLOOR: Final = -9999.0  # what servers write for a log-probability of minus infinity, which JSON cannot say


@dataclass(frozen=True)
class Reply:
    """One answer. None: the server did not say. `log_prob` is in nats, of all its tokens, at temperature 1."""

    text: str
    tokens: int | None = None
    log_prob: float | None = None
    truncated: bool = False  # ended at the token limit
    top_log_probs: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class Score:
    """The log-probability of a given text after its context, in nats, over `tokens` tokens."""

    log_prob: float
    tokens: int


@dataclass(frozen=True)
class Failure:
    """Why there is no answer, after all retries: to be recorded as failed and never as wrong."""

    reason: str
    parameter: str = ""  # the request's parameter that the server does not take, where it named one


def usage(payload: Any) -> tuple[int, int] | None:
    """The prompt's and the answers' tokens that the server counted; None where it did not."""
    counts = payload.get("usage") if isinstance(payload, dict) else None
    if not isinstance(counts, dict):
        return None
    prompt, generated = counts.get("prompt_tokens"), counts.get("completion_tokens", 0)
    return (prompt, generated) if isinstance(prompt, int) and isinstance(generated, int) else None


def chat_replies(payload: Any) -> list[Reply]:
    """The answers in the response of `/chat/completions`, in the order of their index."""
    choices = _choices(payload)
    return [_chat_reply(choice, _own_tokens(payload, len(choices))) for choice in choices]


def text_replies(payload: Any) -> list[Reply]:
    """The answers in the response of `/completions`, in the order of their index."""
    choices = _choices(payload)
    return [_text_reply(choice, _own_tokens(payload, len(choices))) for choice in choices]


def score_of_end(payload: Any, prompt: str, continuation: str) -> Score:
    """The score of `continuation`, the end of `prompt`, in a response with `echo` and one generated token.

    The tokens are followed from the end, because servers differ in what they put before the prompt. A token that
    begins in the context and ends in the continuation counts as part of the continuation. Without a context the
    prompt's first token has no log-probability, and is left out of sum and count.
    """
    tokens, log_probs = _echoed(payload)
    counted = usage(payload)
    generated = counted[1] if counted else 1
    tokens, log_probs = tokens[: len(tokens) - generated], log_probs[: len(log_probs) - generated]
    pieces = [_bytes(token) for token in tokens]
    wanted = continuation.encode()
    place, length = len(pieces), 0
    while place and length < len(wanted):
        place -= 1
        length += len(pieces[place])
    if not b"".join(pieces[place:]).endswith(wanted):
        place = _place_by_offset(payload, prompt, continuation)
    values = [float(value) for value in log_probs[place : len(pieces)] if value is not None]
    if not values:
        raise ValueError("the server gave no log-probability of the prompt's tokens")
    return Score(sum(values), len(values))


def _place_by_offset(payload: Any, prompt: str, continuation: str) -> int:
    """The first token of the continuation by the server's `text_offset`, where tokens do not spell the text."""
    offsets = _choices(payload)[0]["logprobs"].get("text_offset")
    start = len(prompt) - len(continuation)
    if not isinstance(offsets, list) or start not in offsets:
        raise ValueError("the echoed tokens do not spell the prompt")
    return offsets.index(start)


def _echoed(payload: Any) -> tuple[list[str], list[float | None]]:
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


def _own_tokens(payload: Any, answers: int) -> int | None:
    counted = usage(payload)
    return counted[1] if counted and answers == 1 else None


def _chat_reply(choice: Mapping[str, Any], tokens: int | None) -> Reply:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("message: expected the assistant's message")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    if content is None:
        content = message.get("refusal") or ""
    if not isinstance(content, str):
        raise ValueError(f"content: expected text, got {type(content).__name__}")
    logs = choice.get("logprobs")
    entries = (logs.get("content") or []) if isinstance(logs, dict) else []
    values = [float(entry["logprob"]) for entry in entries if isinstance(entry, dict) and "logprob" in entry]
    top = [{one["token"]: one["logprob"] for one in reversed(entry.get("top_logprobs") or [])} for entry in entries]
    return _reply(content, choice, tokens, values, top)


def _text_reply(choice: Mapping[str, Any], tokens: int | None) -> Reply:
    text = choice.get("text")
    if not isinstance(text, str):
        raise ValueError("text: expected the completion")
    logs = choice.get("logprobs") if isinstance(choice.get("logprobs"), dict) else {}
    assert isinstance(logs, dict)
    values = [float(value) for value in logs.get("token_logprobs") or [] if value is not None]
    return _reply(text, choice, tokens, values, [one or {} for one in logs.get("top_logprobs") or []])


def _reply(
    text: str, choice: Mapping[str, Any], tokens: int | None, values: Sequence[float], top: Sequence[Mapping[str, Any]]
) -> Reply:
    return Reply(
        text,
        tokens if tokens is not None else (len(values) or None),
        sum(values) if values else None,
        choice.get("finish_reason") == "length",
        tuple({token: max(float(value), FLOOR) for token, value in place.items()} for place in top),
    )
