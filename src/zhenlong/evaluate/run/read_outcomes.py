"""Whether each outcome's answer could be read: the status that is recorded with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from zhenlong.evaluate.metrics.registry import Metric
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.results.reading import Reading, ReadingStatus
from zhenlong.guarded_call import ANYTHING, time_limit
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.verify.answer_text import UNCLOSED_REASONING, Answer

FindsInText = Callable[[str, Instance], bool]
FINDING_SECONDS: Final = 30.0  # of the processor, for one answer


def with_reading(outcome: Outcome, bound: Sequence[tuple[Metric, Any]]) -> Outcome:
    """The outcome with its `reading`: what none of the metrics finds an answer in is unread."""
    readers = [partial(metric.finds_answer, function) for metric, function in bound if metric.finds is not None]
    return replace(outcome, reading=_reading(outcome, readers))


def _reading(outcome: Outcome, readers: Sequence[FindsInText]) -> Reading:
    if outcome.failed:
        return Reading(ReadingStatus.FAILED, outcome.failed)
    pairs = list(zip(outcome.outputs, outcome.readings, strict=True))
    found = [_output_reading(output, answer, outcome.instance, readers) for output, answer in pairs]
    read = sum(status is ReadingStatus.READ for status, _ in found)
    status, reason = next((one for one in found if one[0] is not ReadingStatus.READ), (ReadingStatus.READ, ""))
    return Reading(status, reason, any(one.truncated for one in outcome.outputs), read, len(found))


def _output_reading(
    output: GeneratedOutput, answer: Answer, instance: Instance, readers: Sequence[FindsInText]
) -> tuple[ReadingStatus, str]:
    if answer.missing:
        status = ReadingStatus.TRUNCATED if output.truncated else ReadingStatus.EMPTY
        return status, "the reasoning is not closed" if answer.missing == UNCLOSED_REASONING else "no text"
    if readers and not any(_finds(reader, answer.text, instance) for reader in readers):
        if output.truncated:
            return ReadingStatus.TRUNCATED, "the token limit was reached before an answer was found"
        return ReadingStatus.UNREAD, "no answer is found in the text"
    return ReadingStatus.READ, ""


def _finds(reader: FindsInText, text: str, instance: Instance) -> bool:
    try:
        with time_limit(FINDING_SECONDS):
            return reader(text, instance)
    except ANYTHING:
        return False
