"""Rule-based rewards: a task's own verifier, patterns, language, refusal, length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from zhenlong.errors import UserError
from zhenlong.guarded_call import time_limit
from zhenlong.rewards.task_response import RewardFn, TaskResponse
from zhenlong.verify import check_regex, is_refusal, verify
from zhenlong.verify.answer_text import names_reasoning
from zhenlong.verify.instructions.response_level import in_language, supported_languages

RULE_SECONDS: Final = 30.0  # of the processor for one response


def verifier_reward() -> RewardFn:
    """The correctness of each response, 0 to 1, by its task's verifier. Raises UserError for a task without one."""
    return _per_response(lambda response: verify(response.task, response.text))


def regex_reward(pattern: str) -> RewardFn:
    """1 if `pattern` is found in the answer, else 0; one that names a trace's tags is looked for in the whole response.

    Raises UserError for an invalid pattern."""
    check_regex("", "", pattern=pattern)
    whole = names_reasoning(pattern)
    return _per_response(lambda response: check_regex(response.text if whole else response.answer, "", pattern=pattern))


def truncated_reward() -> RewardFn:
    """1 for a truncated response, else 0; use a negative weight as a penalty."""
    return _per_response(lambda response: float(response.truncated))


def overlong_penalty(max_tokens: float, cache: float) -> RewardFn:
    """0 up to `max_tokens` - `cache` tokens, falling to -1 at `max_tokens`, and -1 beyond: DAPO's soft punishment.

    Eq. 13 of Yu et al. (2025), to be added to the response's reward. Raises UserError for a response without a token
    count, and for invalid lengths.
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
    """1 if langdetect detects `language` (ISO 639-1) in the response, or no language at all, else 0.

    Numbers and symbols have no language, so this does not require words. Seeded, and so deterministic.
    """
    if language not in supported_languages():
        raise UserError(f"language:{language}: unknown language; expected one of {', '.join(supported_languages())}")
    return _per_response(lambda response: float(in_language(response.text, language)))


def group_reward(group: str) -> RewardFn:
    """1 if the task has the group `key=value`, else 0: a property of the prompt, for gates."""
    in_group = _group_predicate(group)
    return _per_response(lambda response: float(in_group(response)))


def is_refusal_reward() -> RewardFn:
    """1 if the response is a refusal, English or Chinese, else 0; see `zhenlong.verify.is_refusal`."""
    return _per_response(lambda response: float(is_refusal(response.answer)))


def correct_refusal_reward(group: str) -> RewardFn:
    """1 for refusing a task of the group `key=value`, and for a non-empty response without refusal to any other."""
    in_group = _group_predicate(group)

    def correct(response: TaskResponse) -> float:
        answer = response.answer
        refused = is_refusal(answer)
        return float(refused if in_group(response) else bool(answer.strip()) and not refused)

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
        found = []
        for response in responses:
            with time_limit(RULE_SECONDS):
                found.append(score(response))
        return found

    return reward
