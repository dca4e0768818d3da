"""Which checker a task asks, and the errors of a task that cannot be checked."""

import pytest

from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.verify import verify

PROMPT = (Message("user", "What is 6 times 7?"),)


@pytest.mark.parametrize(
    ("verifier", "arguments"),
    [("math", {}), ("exact", {}), ("exact", {"normalise": False}), ("regex", {"pattern": r"(\d+)"})],
)
def test_each_verifier_tells_right_from_wrong(verifier: str, arguments: dict) -> None:
    task = Task(PROMPT, "42", verifier, arguments)
    assert verify(task, "42") == 1.0
    assert verify(task, "43") == 0.0


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task(PROMPT, "42", "maths"), "expected one of exact, math, regex"),
        (Task(PROMPT, "42"), "is not known"),
        (Task(PROMPT, "42", "exact", {"normalize": True}), "no argument normalize; expected normalise, accept"),
        (Task(PROMPT, "42", "regex"), "arguments.pattern"),
        (Task(PROMPT, "", "exact"), "needs a reference"),
        (Task(PROMPT, "", "math"), "no mathematical expression"),
    ],
)
def test_a_task_that_cannot_be_checked_is_a_user_error(task: Task, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        verify(task, "42")
