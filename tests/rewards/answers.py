"""Responses to small sums, for the tests of rewards."""

from zhenlong.records import Message, Task
from zhenlong.rewards import TaskResponse


def answer(text: str, question: str = "2 + 2?", reference: str = "4", truncated: bool = False) -> TaskResponse:
    return TaskResponse(Task((Message("user", question),), reference, "math"), text, truncated)


RIGHT, WRONG, CUT = answer("4"), answer("5"), answer("It is", truncated=True)
