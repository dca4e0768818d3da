"""Rewards that are rules: a task's own verifier, patterns, language, refusal, length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zhenlong.errors import UserError
from zhenlong.rewards.answer import Answer, Reward
from zhenlong.verify import check_regex, refuses, verify
from zhenlong.verify.instructions.wholes import in_language, languages


def verifier_reward() -> Reward:
    """How right each answer is, 0 to 1, by the verifier its task names. Raises UserError for a task that has none."""
    return _each(lambda answer: verify(answer.task, answer.text))


def regex_reward(pattern: str) -> Reward:
    """1 where `pattern` is found in the answer, else 0. Raises UserError for an invalid pattern."""
    check_regex("", "", pattern=pattern)
    return _each(lambda answer: check_regex(answer.text, "", pattern=pattern))


def truncated_reward() -> Reward:
    """1 for an answer that was cut off, else 0; with a negative weight, the price of not coming to an end."""
    return _each(lambda answer: float(answer.truncated))


def overlong_reward(longest: float, cache: float) -> Reward:
    """0 up to `longest` - `cache` tokens, falling to -1 at `longest`, and -1 beyond: DAPO's soft punishment.

    Eq. 13 of Yu et al. (2025), to be added to the reward of the answer. Raises UserError for an answer whose tokens
    nobody counted, and for lengths that make no sense.
    """
    if not (0 < cache <= longest and int(cache) == cache and int(longest) == longest):
        raise UserError(f"overlong({longest:g}, {cache:g}): expected whole tokens, 0 < cache <= longest")

    def price(answer: Answer) -> float:
        if answer.tokens is None:
            raise UserError("overlong: an answer has no token count; its rewards are for answers that a model sampled")
        return max(-1.0, min(0.0, (longest - cache - answer.tokens) / cache))

    return _each(price)


def language_reward(language: str) -> Reward:
    """1 where langdetect takes the answer for `language` (ISO 639-1), or sees no language in it, else 0.

    Numbers and symbols have no language: ask for words in another way. Seeded, so the same every time.
    """
    if language not in languages():
        raise UserError(f"language:{language}: not a language it knows; expected one of {', '.join(languages())}")
    return _each(lambda answer: float(in_language(answer.text, language)))


def group_reward(which: str) -> Reward:
    """1 where the task's group is as `which` says, `key=value`: a property of the prompt, for gates."""
    belongs = _membership(which)
    return _each(lambda answer: float(belongs(answer)))


def refuses_reward() -> Reward:
    """1 where the answer refuses in English; see `zhenlong.verify.refuses`."""
    return _each(lambda answer: float(refuses(answer.text)))


def refusal_reward(which: str) -> Reward:
    """1 where an answer to a task of the group `key=value` refuses, and any other says something and does not."""
    belongs = _membership(which)

    def right(answer: Answer) -> float:
        refused = refuses(answer.text)
        return float(refused if belongs(answer) else bool(answer.text.strip()) and not refused)

    return _each(right)


def _membership(which: str) -> Callable[[Answer], bool]:
    key, _, value = which.partition("=")

    def belongs(answer: Answer) -> bool:
        if key not in answer.task.groups:
            known = ", ".join(answer.task.groups) or "none"
            raise UserError(f"group {which}: a task has no group {key}; it has {known}")
        return answer.task.groups[key] == value

    return belongs


def _each(value: Callable[[Answer], float]) -> Reward:
    def reward(answers: Sequence[Answer]) -> list[float]:
        return [value(answer) for answer in answers]

    return reward
