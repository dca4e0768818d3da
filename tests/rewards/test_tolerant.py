"""A reward that fails on a response costs that response the lowest reward; one that fails on all is an error."""

import re

import pytest
from answers import RIGHT, WRONG, answer

from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.rewards import RewardFailed, TaskResponse, build_reward_fn, function_reward, rules, verifier_reward

ODD = answer("odd")
TEXTS = Task((Message("user", "?"),), "")


def lengths(prompts, responses):
    """The length of each response; on `odd` it raises."""
    if "odd" in responses:
        raise KeyError("odd")
    return [float(len(one)) for one in responses]


def test_a_response_on_which_a_function_raises_gets_the_lowest_reward_and_is_counted():
    reward = build_reward_fn(function_reward(lengths, "lengths"))
    with pytest.warns(UserWarning, match=r"failed for 1 of 3 responses .*KeyError.*line \d+"):
        found = reward.breakdown([answer("four"), ODD, answer("seven")])
    assert found.rewards == [4.0, 4.0, 5.0]
    (name,) = [name for name in found.components if name.endswith(": failed")]
    assert found.components[name] == [0.0, 1.0, 0.0]
    assert all(value is None for value in reward.breakdown([answer("four")]).components[name])  # nothing failed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "good", [], 10**400])
def test_a_value_that_is_no_finite_number_costs_its_response(value):
    reward = build_reward_fn(lambda responses: [1.0, value, 3.0])
    with pytest.warns(UserWarning, match="1 of 3"):
        assert reward([RIGHT, ODD, WRONG]) == [1.0, 1.0, 3.0]


def test_a_reward_that_fails_for_every_response_is_an_error():
    calls = []

    def broken(prompts, responses):
        calls.append(len(responses))
        raise ZeroDivisionError("never")

    with pytest.raises(UserError, match=r"ZeroDivisionError: never.* all of 300 responses"):
        build_reward_fn(function_reward(broken, "broken"))([ODD] * 300)
    assert len(calls) < 30


def test_what_the_user_has_to_mend_is_an_error_at_once():
    with pytest.raises(UserError, match="verifier"):
        build_reward_fn("verifier")([RIGHT, TaskResponse(TEXTS, "x"), RIGHT])
    with pytest.raises(UserError, match="expected 2 numbers"):
        build_reward_fn(lambda responses: [1.0])([RIGHT, WRONG])


def test_a_function_that_never_ends_costs_its_response(monkeypatch):
    monkeypatch.setattr("zhenlong.rewards.function.CALL_SECONDS", 0.1)
    monkeypatch.setattr("zhenlong.rewards.function.SECONDS_PER_RESPONSE", 0.1)

    def endless(prompts, responses):
        return [float(one != "odd" or bool(re.search(r"(a+)+$", "a" * 40 + "b"))) for one in responses]

    with pytest.warns(UserWarning, match="TimeLimitExceeded"):
        assert build_reward_fn(function_reward(endless, "endless"))([RIGHT, ODD]) == [1.0, 1.0]
    with pytest.raises(RewardFailed):
        function_reward(endless)([ODD])


def test_a_verifier_that_raises_costs_its_response(monkeypatch):
    def check(task, text):
        if text == "odd":
            raise RecursionError("deep")
        return 1.0

    monkeypatch.setattr(rules, "verify", check)
    with pytest.warns(UserWarning, match="RecursionError: deep"):
        assert build_reward_fn(verifier_reward())([RIGHT, ODD]) == [1.0, 1.0]
