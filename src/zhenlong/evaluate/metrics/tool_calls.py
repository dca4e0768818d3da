"""Correctness of tool calls by BFCL's AST check, and whether the response parses as calls."""

from __future__ import annotations

from zhenlong.evaluate.metrics.maths import answer_texts, fraction_correct
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.verify.tool_call_parsing import parse_tool_calls
from zhenlong.verify.tool_calls import check_tool_calls


@instance_metric("tool_calls", Measure("tool_calls"), Measure("calls_read", higher_is_better=None))
def tool_calls(outcome: Outcome) -> dict[str, float]:
    """`tool_calls`: the right calls, or none if no tool applies. `calls_read`: the response parses as calls.

    A low `calls_read` on prompts that need calls means that the format is wrong, not the choice of tool.
    """
    data = outcome.instance.data
    return {
        "tool_calls": fraction_correct(
            outcome,
            lambda text: check_tool_calls(text, functions=data["functions"], ground_truth=data["ground_truth"]) == 1.0,
        ),
        "calls_read": sum(map(_is_tool_call, answer_texts(outcome))) / len(answer_texts(outcome)),
    }


def _is_tool_call(text: str) -> bool:
    try:
        return bool(parse_tool_calls(text))
    except ValueError:
        return False
