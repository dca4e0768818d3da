"""Were the right tools called? BFCL's check of the syntax tree, and whether anything was called at all."""

from __future__ import annotations

from zhenlong.evaluate.metrics.maths import answers, mean_over_answers
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.outcome import Outcome
from zhenlong.verify.tool_call_text import decoded_calls
from zhenlong.verify.tool_calls import check_tool_calls


@instance_metric("tool_calls", Measure("tool_calls"), Measure("calls_read", higher_is_better=None))
def tool_calls(outcome: Outcome) -> dict[str, float]:
    """`tool_calls`: the right calls, or none where none serves. `calls_read`: the answer consists of calls of any kind.

    A low `calls_read` where calls are asked for means that the form is missed, and not the choice of tool.
    """
    data = outcome.instance.data
    return {
        "tool_calls": mean_over_answers(
            outcome,
            lambda text: check_tool_calls(text, functions=data["functions"], ground_truth=data["ground_truth"]) == 1.0,
        ),
        "calls_read": sum(map(_calls, answers(outcome))) / len(answers(outcome)),
    }


def _calls(text: str) -> bool:
    try:
        return bool(decoded_calls(text))
    except ValueError:
        return False
