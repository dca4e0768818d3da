"""Converters for maths problems with a verifiable final answer: GSM8K, MATH, AIME."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import group_values, text_field
from zhenlong.evaluate.scenarios.instances import converter
from zhenlong.verify.final_answer import gsm8k_answer, last_boxed, parse_integer

ANSWER_FORMATS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "hashes": (gsm8k_answer, "a solution that ends in #### and a number"),
    "boxed": (last_boxed, "a solution with its answer in \\boxed{}"),
    "integer": (parse_integer, "a whole number"),
    "any": (str, "an answer"),
}


@converter("final_answer")
def final_answer(
    fields: Mapping[str, Any],
    *,
    problem: str,
    answer: str,
    final: str = "any",
    groups: Mapping[str, str] | None = None,
) -> Instance:
    """A problem with its worked solution or its answer alone; `final` is the format of the answer.

    `hashes`: `#### ` and a number. `boxed`: a box. `integer`: a whole number. The whole text is the reference, so that
    in-context examples show it.
    """
    given = fields[answer]
    solution = str(given) if isinstance(given, int | float) else text_field(fields, answer)
    read, expected = ANSWER_FORMATS[final]
    if read(solution) is None:
        raise ValueError(f"{answer}: expected {expected}, got {solution!r:.80}")
    return Instance(
        "", text_field(fields, problem), (Reference(solution),), groups=group_values(fields, groups), labels=True
    )
