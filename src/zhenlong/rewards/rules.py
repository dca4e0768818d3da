"""Rewards that are rules: a task's own verifier, patterns, language, refusal, length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zhenlong.errors import UserError
from zhenlong.rewards.task_response import RewardFn, TaskResponse
from zhenlong.verify import check_regex, is_refusal, verify
from zhenlong.verify.instructions.response_level import in_language, supported_languages


def verifier_reward() -> RewardFn:
    """How right each response is, 0 to 1, by the verifier its task names. Raises UserError for a task that has none."""
    return _per_response(lambda response: verify(response.task, response.text))


def regex_reward(pattern: str) -> RewardFn:
    """1 where `pattern` is found in the response, else 0. Raises UserError for an invalid pattern."""
    check_regex("", "", pattern=pattern)
    return _per_response(lambda response: check_regex(response.text, "", pattern=pattern))


def truncated_reward() -> RewardFn:
    """1 for a response that was cut off, else 0; with a negative weight, the price of not coming to an end."""
    return _per_response(lambda response: float(response.truncated))


def overlong_penalty(max_tokens: float, cache: float) -> RewardFn:
    """0 up to `max_tokens` - `cache` tokens, falling to -1 at `max_tokens`, and -1 beyond: DAPO's soft punishment.

    Eq. 13 of Yu et al. (2025), to be added to the reward of the response. Raises UserError for a response whose tokens
    nobody counted, and for lengths that make no sense.
    """
    if not (0 < cache <= max_tokens and int(cache) == cache and int(max_tokens) == max_tokens):
        raise UserError(f"overlong_penalty({max_tokens:g}, {cache:g}): expected whole tokens, 0 < cache <= max_tokens")

    def penalty(response: TaskResponse) -> float:
        if response.num_tokens is None:
            raise UserError(
                "overlong_penalty: a response has no token count; its rewards are for responses that a model sampled"
            )
        return max(-1.0, min(0.0, (max_tokens - cache - response.num_tokens) / cache))

    return _per_response(penalty)


def language_reward(language: str) -> RewardFn:
    """1 where langdetect takes the response for `language` (ISO 639-1), or sees no language in it, else 0.

    Numbers and symbols have no language: ask for words in another way. Seeded, so the same every time.
    """
    if language not in supported_languages():
        raise UserError(
            f"language:{language}: not a language it knows; expected one of {', '.join(supported_languages())}"
        )
    return _per_response(lambda response: float(in_language(response.text, language)))


def group_reward(group: str) -> RewardFn:
    """1 where the task's group is as `group` says, `key=value`: a property of the prompt, for gates."""
    in_group = _group_predicate(group)
    return _per_response(lambda response: float(in_group(response)))


def is_refusal_reward() -> RewardFn:
    """1 where the response refuses in English; see `zhenlong.verify.is_refusal`."""
    return _per_response(lambda response: float(is_refusal(response.text)))


def correct_refusal_reward(group: str) -> RewardFn:
    """1 where a response to a task of the group `key=value` refuses, and any other says something and does not."""
    in_group = _group_predicate(group)

    def correct(response: TaskResponse) -> float:
        refused = is_refusal(response.text)
        return float(refused if in_group(response) else bool(response.text.strip()) and not refused)

    return _per_response(correct)


def _group_predicate(group: str) -> Callable[[TaskResponse], bool]:
    key, _, value = group.partition("=")

    def in_group(response: TaskResponse) -> bool:
        if key not in response.task.groups:
            known = ", ".join(response.task.groups) or "none"
            raise UserError(f"group {group}: a task has no group {key}; it has {known}")
        return response.task.groups[key] == value

    return in_group


def _per_response(score: Callable[[TaskResponse], float]) -> RewardFn:
    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        return [score(response) for response in responses]

    return reward
