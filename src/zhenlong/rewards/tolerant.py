"""A reward that fails on single responses: they are counted and get the lowest reward, and the run goes on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.guarded_call import ANYTHING, describe_error
from zhenlong.rewards.abstention import ABSTAINED
from zhenlong.rewards.combine import reward_values
from zhenlong.rewards.task_response import RewardFailed, RewardFn, TaskResponse

MAX_FAILURES: Final = 20  # responses in a row that fail alone, after which the reward fails for all


def tolerant_reward(
    reward_fn: RewardFn,
    name: str,
    record: Callable[[str, Sequence[TaskResponse], Sequence[float]], None] | None = None,
) -> RewardFn:
    """The reward with one finite number for each response, whatever it raises or returns for some of them.

    A response for which it raises, or returns no finite number, gets the lowest reward of the call's other responses:
    no policy gains by it. Where it returns None it abstains: the value is NaN (see `abstention`). `record` is given
    which responses failed and on which it abstained (1, else 0), in calls that have any. Raises `UserError` where the
    reward fails for every response, returns another number of values, or raises `UserError`.
    """

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        if not responses:
            return []
        try:
            values = reward_values(reward_fn(responses), name, len(responses))
        except ANYTHING as error:
            _raise_if_set_up(error)
            values = _one_by_one(reward_fn, name, responses, error)
        failed = ["" if value is None else reason_of(value, at, responses[at]) for at, value in enumerate(values)]
        abstained = [value is None for value in values]
        values = [ABSTAINED if value is None else value for value in values]
        if record and any(abstained):
            record("abstained", responses, [float(one) for one in abstained])
        if not any(failed):
            return [float(value) for value in values]
        reason = next(filter(None, failed)).removeprefix(f"reward {name}: ")
        good = [float(one) for one, problem in zip(values, failed, strict=True) if not problem and one is not ABSTAINED]
        if all(failed):
            raise UserError(f"reward {name}: {reason}; so it fails for all of {len(values)} responses")
        count = sum(map(bool, failed))
        warnings.warn(f"reward {name}: it failed for {count} of {len(values)} responses ({reason})", stacklevel=2)
        if record:
            record("failed", responses, [float(bool(problem)) for problem in failed])
        lowest = min(good, default=ABSTAINED)
        return [lowest if problem else float(value) for value, problem in zip(values, failed, strict=True)]

    return reward


def reason_of(value: Any, place: int, response: TaskResponse) -> str:
    """Why a value is no reward; empty if it is one."""
    if isinstance(value, BaseException):
        return str(value) if isinstance(value, RewardFailed) else describe_error(value)
    try:
        if isinstance(value, Real) and math.isfinite(value):
            return ""
    except ANYTHING:
        pass
    shown = repr(value) if isinstance(value, float | str) else type(value).__name__
    return f"expected a finite number for response {place} ({response.text[:60]!r}), got {shown[:60]}"


def _one_by_one(reward_fn: RewardFn, name: str, responses: Sequence[TaskResponse], first: BaseException) -> list[Any]:
    """The value of each response alone, or what the reward raises."""
    if len(responses) == 1:
        return [first]
    values: list[Any] = []
    for response in responses:
        try:
            values += reward_values(reward_fn([response]), name, 1)
        except ANYTHING as error:
            _raise_if_set_up(error)
            values.append(error)
        if len(values) == MAX_FAILURES and all(isinstance(one, BaseException) for one in values):
            return values + [first] * (len(responses) - len(values))
    return values


def _raise_if_set_up(error: BaseException) -> None:
    """Raise a `UserError`: what the user has to mend, and no response's fault."""
    if isinstance(error, UserError) and not isinstance(error, RewardFailed):
        raise error
