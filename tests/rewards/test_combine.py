"""Combinations of rewards, and validation errors that name the reward."""

import math

import numpy as np
import pytest
import torch
from answers import CUT, RIGHT, WRONG, answer

from zhenlong.errors import UserError
from zhenlong.rewards import (
    function_reward,
    gated_reward,
    mean_minus_std,
    mean_of_rewards,
    minimum,
    product,
    safety_gate,
    truncated_reward,
    validated_reward,
    verifier_reward,
    weighted_sum,
    whitened_reward,
)


def given(*values):
    """A reward that returns these values."""
    return lambda answers: list(values[: len(answers)])


def test_weighted_sum() -> None:
    reward = weighted_sum([(0.5, verifier_reward()), (-2.0, truncated_reward())])
    assert reward([RIGHT, WRONG, CUT]) == [0.5, 0.0, -2.0]


def test_a_gate_computes_the_reward_only_for_responses_that_pass() -> None:
    asked = []

    def reward(answers):
        asked.extend(a.text for a in answers)
        return [float(len(a.text)) for a in answers]

    combined = gated_reward(verifier_reward(), reward)
    assert combined([WRONG, RIGHT, answer("#### 4"), CUT]) == [0.0, 1.0, 6.0, 0.0]
    assert asked == ["4", "#### 4"]
    assert validated_reward(combined, "gate")([WRONG, CUT]) == [0.0, 0.0]


def test_failing_a_gate_never_pays_more_than_passing_it() -> None:
    bad_model = given(-7.0)
    assert gated_reward(verifier_reward(), bad_model)([RIGHT, WRONG]) == [0.0, 0.0]
    assert gated_reward(verifier_reward(), bad_model, floor=-10.0)([RIGHT, WRONG]) == [-7.0, -10.0]


@pytest.mark.parametrize("values", [[1, 0.5], np.array([1.0, 0.5]), torch.tensor([1.0, 0.5]), (np.float32(1), True)])
def test_any_real_numbers_become_floats(values) -> None:
    result = validated_reward(lambda _: values, "mine")([RIGHT, WRONG])
    assert result[0] == 1.0
    assert all(type(value) is float for value in result)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0], "mine: expected 2 numbers, one per response, got 1"),
        ([1.0, 2.0, 3.0], "got 3"),
        ([1.0, float("nan")], "response 1 .*got nan"),
        ([float("-inf"), 1.0], "response 0 .*got -inf"),
        ([1.0, None], "response 1 .*got None"),
        ([1.0, "2"], "response 1 .*got '2'"),
        (torch.ones(2, 1), "response 0"),
        (None, "got NoneType"),
        (1.0, "got float"),
    ],
)
def test_an_invalid_value_names_the_reward_and_the_response(values, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        validated_reward(lambda _: values, "mine")([RIGHT, WRONG])


def test_a_function_of_prompts_and_responses_is_a_reward() -> None:
    def matches(prompts, responses, references):
        assert prompts[0] == [{"role": "user", "content": "2 + 2?"}]
        return [float(r == right) for r, right in zip(responses, references, strict=True)]

    assert function_reward(matches)([RIGHT, WRONG]) == [1.0, 0.0]
    assert function_reward(lambda prompts, responses: [len(r) for r in responses])([RIGHT]) == [1]


def test_an_error_in_a_user_s_function_says_where() -> None:
    def broken(prompts, responses):
        raise KeyError("score")

    with pytest.raises(UserError, match=r"broken: it raised KeyError: 'score' \(.*test_combine.py, line \d+\)"):
        function_reward(broken)([RIGHT])


def test_ensembles_are_the_closed_forms_over_their_members() -> None:
    members = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 0.5], [-1.0, 5.0, 0.5]])
    rewards = [given(*row) for row in members]
    asked = [RIGHT, WRONG, CUT]
    assert mean_of_rewards(rewards)(asked) == pytest.approx(members.mean(0))
    assert minimum(rewards)(asked) == [-1.0, -2.0, 0.5]
    for k in (0.0, 0.5, 2.0):
        spread = np.sqrt(((members - members.mean(0)) ** 2).mean(0))
        assert mean_minus_std(rewards, k)(asked) == pytest.approx(members.mean(0) - k * spread)
    assert mean_minus_std(rewards, 3.0)(asked)[2] == 0.5  # no penalty if they agree
    assert product(rewards)(asked) == pytest.approx(members.prod(0))
    assert [reward(rewards)([]) for reward in (mean_of_rewards, minimum, product)] == [[], [], []]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize(
    ("unsafe_prompt", "safety", "expected"),
    [
        (0.0, 0.9, "helpful"),
        (0.0, 0.151, "helpful"),
        (0.0, 0.149, "safety"),
        (1.0, 0.9, "safety"),
        (1.0, 0.01, "safety"),
        (0.5, 0.9, "safety"),
    ],
)
def test_safety_gate_selects_the_safety_score_as_llama_2_does(unsafe_prompt, safety, expected) -> None:
    """The rule as in the paper: select one of two probabilities, then take its logit."""
    probabilities = {"helpful": 0.7, "safety": safety}
    rewards = (given(logit(0.7)), given(logit(safety)), given(unsafe_prompt))
    assert safety_gate(*rewards)([RIGHT]) == pytest.approx([logit(probabilities[expected])])
    if not unsafe_prompt:
        assert safety_gate(*rewards[:2])([RIGHT]) == pytest.approx([logit(probabilities[expected])])
    assert safety_gate(*rewards, 1e-9)([RIGHT]) == pytest.approx([logit(safety if unsafe_prompt else 0.7)])


def test_whitened_rewards_have_mean_0_and_variance_1_in_the_same_order() -> None:
    found = np.array(whitened_reward(given(5.0, -1.0, 9.0, 2.0))([RIGHT] * 4))
    assert found.mean() == pytest.approx(0)
    assert found.std() == pytest.approx(1)
    assert list(np.argsort(found)) == [1, 3, 0, 2]
    assert whitened_reward(given(3.0, 3.0))([RIGHT] * 2) == [0.0, 0.0]
    assert whitened_reward(given())([]) == []
