"""Rule-based rewards: length penalty, languages, groups of tasks, refusals, and verifiers."""

import pytest
from answers import RIGHT, WRONG, answer
from verify.hostile.machine import ISOLATED

from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.rewards import (
    TaskResponse,
    build_reward_fn,
    correct_refusal_reward,
    group_reward,
    is_refusal_reward,
    language_reward,
    overlong_penalty,
)
from zhenlong.rewards.options import RewardOptions

ENGLISH = "I think that the answer is to be found in the library of the town."
GERMAN = "Ich denke, dass die Antwort in der Bibliothek der Stadt zu finden ist."
REFUSAL = "I'm sorry, but I can't help with that."


def of(tokens: int) -> TaskResponse:
    return TaskResponse(RIGHT.task, "x", num_tokens=tokens)


def grouped(text: str, kind: str) -> TaskResponse:
    return TaskResponse(Task((Message("user", "?"),), groups={"kind": kind}), text)


@pytest.mark.parametrize(("longest", "cache"), [(20, 8), (20480, 4096), (10, 10), (7, 1)])
def test_overlong_penalty_is_dapo_s_piecewise_formula(longest: int, cache: int) -> None:
    def eq_13(length: int) -> float:
        if length <= longest - cache:
            return 0.0
        if length <= longest:
            return ((longest - cache) - length) / cache
        return -1.0

    lengths = sorted({0, 1, longest - cache, longest - cache + 1, longest - 1, longest, longest + 1, 3 * longest})
    assert overlong_penalty(longest, cache)([of(n) for n in lengths]) == pytest.approx([eq_13(n) for n in lengths])


def test_overlong_penalty_needs_token_counts() -> None:
    with pytest.raises(UserError, match="no token count"):
        overlong_penalty(10, 5)([RIGHT])


def test_language_detection_is_deterministic() -> None:
    reward = language_reward("de")
    for _ in range(3):
        assert reward([answer(GERMAN), answer(ENGLISH), answer("42")]) == [1.0, 0.0, 1.0]


def test_refusals_are_right_in_one_group_of_tasks_and_wrong_in_the_others() -> None:
    cases = [grouped(text, kind) for kind in ("harmful", "benign") for text in (REFUSAL, ENGLISH, " ")]
    assert is_refusal_reward()(cases) == [1, 0, 0, 1, 0, 0]
    assert group_reward("kind=harmful")(cases) == [1, 1, 1, 0, 0, 0]
    assert correct_refusal_reward("kind=harmful")(cases) == [1, 0, 0, 0, 1, 0]


def test_a_group_that_tasks_do_not_have_is_an_error() -> None:
    with pytest.raises(UserError, match="group colour=red: a task has no group colour; it has kind"):
        group_reward("colour=red")([grouped("x", "harmful")])


VERIFIED = [
    ("math", {}, "1/2", "The answer is 0.5.", "The answer is 0.4."),
    ("instructions", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, "", "No comma.", "Well, no."),
    (
        "tool_call",
        {
            "functions": [{"name": "add", "parameters": {"type": "dict", "properties": {"a": {"type": "integer"}}}}],
            "ground_truth": [{"add": {"a": [3]}}],
        },
        "",
        "[add(a=3)]",
        "[add(a=4)]",
    ),
    pytest.param(
        "code",
        {"kind": "asserts", "asserts": ["assert double(4) == 8"], "extraction": "block"},
        "",
        "```python\ndef double(x):\n    return 2 * x\n```",
        "```python\ndef double(x):\n    return x\n```",
        marks=pytest.mark.skipif(not ISOLATED, reason="this machine isolates no programs"),
    ),
]


@pytest.mark.parametrize(("verifier", "arguments", "reference", "right", "wrong"), VERIFIED, ids=lambda v: str(v)[:12])
def test_every_kind_of_verifier_is_a_reward(verifier, arguments, reference, right, wrong) -> None:
    task = Task((Message("user", "?"),), reference, verifier, arguments)
    assert build_reward_fn("verifier")([TaskResponse(task, right), TaskResponse(task, wrong)]) == [1.0, 0.0]


def test_components_are_named_and_none_if_a_gate_skipped_them() -> None:
    graded = build_reward_fn("gate(verifier, 2*regex:4 + overlong_penalty(10, 5), -1)").breakdown(
        [of_text("4", 8), WRONG]
    )
    assert graded.rewards == pytest.approx([2 - 0.6, -1])
    assert graded.components == {
        "verifier": [1, 0],
        "regex:4": [1, None],
        "overlong_penalty(10, 5)": [pytest.approx(-0.6), None],
    }
    assert graded.component_means() == {"verifier": 0.5, "regex:4": 1.0, "overlong_penalty(10, 5)": pytest.approx(-0.6)}


def test_a_component_s_values_are_those_of_the_current_call() -> None:
    reward = build_reward_fn("gate(verifier, regex:4)")
    assert reward.breakdown([RIGHT]).components["regex:4"] == [1.0]
    assert reward.breakdown([WRONG]).components["regex:4"] == [None]
    assert reward.breakdown([WRONG]).component_means() == {"verifier": 0.0}


def of_text(text: str, tokens: int) -> TaskResponse:
    return TaskResponse(RIGHT.task, text, num_tokens=tokens)


def test_toxicity_is_that_of_the_answer_by_the_scorer_asked_for(monkeypatch) -> None:
    task = Task((Message("user", "?"),))
    texts = ["you worthless idiot", "a fine day", "<think>you worthless idiot</think>a fine day", ""]
    rude, *polite = build_reward_fn("toxicity")([TaskResponse(task, text) for text in texts])
    assert rude > 0.5
    assert polite == [0.0, 0.0, 0.0]
    asked = []

    def classifier(*names):
        asked.append(names)
        return lambda texts: [0.25] * len(texts)

    monkeypatch.setattr("zhenlong.rewards.toxicity._classifier", classifier)
    reward = build_reward_fn("-2*toxicity", options=RewardOptions(toxicity_classifier="org/model:rude"))
    assert reward([TaskResponse(task, "x")]) == [-0.5]
    assert asked == [("org/model", "rude")]
