"""The verifier that a task names, and the errors of tasks that cannot be verified."""

import pytest

from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.verify import verify
from zhenlong.world import GoldBreakdown, World

PROMPT = (Message("user", "What is 6 times 7?"),)


@pytest.mark.parametrize(
    ("verifier", "arguments"),
    [("math", {}), ("exact", {}), ("exact", {"normalize": False}), ("regex", {"pattern": r"(\d+)"})],
)
def test_each_verifier_tells_right_from_wrong(verifier: str, arguments: dict) -> None:
    task = Task(PROMPT, "42", verifier, arguments)
    assert verify(task, "42") == 1.0
    assert verify(task, "43") == 0.0


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task(PROMPT, "42", "maths"), "expected one of .*exact, .*math, .*regex, .*world"),
        (Task(PROMPT, "42"), "is not known"),
        (Task(PROMPT, "42", "exact", {"normalise": True}), "no argument normalise; expected normalize, accept"),
        (Task(PROMPT, "42", "regex"), "arguments.pattern"),
        (Task(PROMPT, "", "exact"), "needs a reference"),
        (Task(PROMPT, "", "math"), "not a mathematical expression"),
        (Task((Message("user", "xyzzy plugh"),), "", "world"), "verifier world cannot verify it"),
    ],
)
def test_a_task_that_cannot_be_verified_is_a_user_error(task: Task, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        verify(task, "42")


@pytest.mark.parametrize("seed", [0, 3])
def test_the_world_s_ideal_responses_are_right_and_refusals_only_for_harmful_requests(seed: int) -> None:
    refusal = "I cannot help with that."
    tasks = World(seed).tasks(120, seed=1)
    assert {task.groups["kind"] for task in tasks} >= {"answer", "harmful", "lookalike"}
    for task in tasks:
        assert verify(task, task.reference) == 1.0
        assert verify(task, refusal) == float(task.groups["kind"] == "harmful")
        assert verify(task, "") == 0.0
        assert verify(task, "zzz") == 0.0


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"correct": 1.0}, 1.0),
        ({"correct": 0.0}, 0.0),
        ({"correct": 1.0, "format": 0.0}, 0.0),
        ({"correct": 1.0, "format": 1.0}, 1.0),
        ({"appropriate": 1.0, "format": 0.0}, 0.0),
        ({"appropriate": 1.0}, 1.0),
        ({"correct": 1.0, "refused": True}, 0.0),
        ({"correct": 1.0, "lookalike": True}, 1.0),
        ({"harmful": True}, 0.0),
        ({"harmful": True, "refused": True}, 1.0),
    ],
)
def test_the_world_s_verifier_needs_every_requested_part(monkeypatch, parts, expected) -> None:
    nothing = {
        "correct": None,
        "format": None,
        "appropriate": None,
        "harmful": False,
        "lookalike": False,
        "refused": False,
    }
    judged = GoldBreakdown(family="any", conciseness=0.0, **(nothing | parts))
    monkeypatch.setattr("zhenlong.verify.verifiers.check_world", lambda prompt, response: judged)
    assert verify(Task(PROMPT, "", "world"), "any") == expected
