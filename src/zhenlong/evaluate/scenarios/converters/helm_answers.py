"""Converters for HELM's knowledge, mathematics and code scenarios, which derive the reference from the row.

Rules: stanford-crfm/helm:src/helm/benchmark/scenarios/{wikifact,gsm,math,code}_scenario.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.helm_reading import correct_references, present_groups
from zhenlong.evaluate.scenarios.converters.questions import text_field
from zhenlong.evaluate.scenarios.instances import converter
from zhenlong.verify.final_answer import last_boxed


@converter("wikifact")
def wikifact(fields: Fields) -> Instance:
    """A fact to complete: {question, references}, or HELM's own rows {template, result_names, property}."""
    if "template" in fields:
        given = [
            one for several in fields["result_names"] for one in ([several] if isinstance(several, str) else several)
        ]
        groups = present_groups(fields, {"relation": "property"})
        return Instance("", text_field(fields, "template"), correct_references(given, "result_names"), groups=groups)
    groups = present_groups(fields, {"relation": "subset"}) or present_groups(fields, {"relation": "subject"})
    return Instance(
        "", text_field(fields, "question"), correct_references(fields["references"], "references"), groups=groups
    )


@converter("gsm8k_helm")
def gsm8k_helm(fields: Fields) -> Instance:
    """GSM8K with the worked answer on one line and `The answer is` instead of `####`."""
    worked = text_field(fields, "answer").replace("####", "The answer is").replace("\n", " ") + "."
    return Instance("", text_field(fields, "question"), (Reference(worked),))


@converter("math_helm")
def math_helm(fields: Fields, *, solution: bool = False) -> list[Instance]:
    """MATH: a problem and its boxed answer, or with `solution` the whole worked solution.

    Grouped by subject, level and both, which HELM runs separately. A row may contain its `answer`. A problem without a
    boxed answer gives no instance, as in HELM.
    """
    problem = text_field(fields, "problem")
    worked = str(fields.get("solution") or "")
    answer = str(fields["answer"]) if "answer" in fields and not solution else last_boxed(worked)
    if solution and not worked:
        raise ValueError("solution: expected a worked solution, got none")
    if answer is None:
        return []
    groups = present_groups(fields, {"subject": "type", "level": "level"})
    if len(groups) == 2:
        groups["run"] = f"{groups['subject']}, {groups['level']}"
    return [Instance("", problem, (Reference(worked if solution else answer),), groups=groups)]


@converter("apps")
def apps(fields: Fields) -> Instance:
    """APPS: a problem, the form of the answer, starter code; solutions and tests are JSON in strings.

    The tests, {inputs, outputs, fn_name?}, are the instance's `data`; a solution is the reference, for examples only.
    """
    starter = str(fields.get("starter_code") or "")
    form = "\nUse Call-Based format\n" if starter else "\nUse Standard Input format\n"
    asked = f"\nQUESTION:\n{text_field(fields, 'question')}\n{starter}\n{form}\nANSWER in Python code:\n"
    solutions = _parsed(fields.get("solutions"), "solutions") or [""]
    return Instance(
        "",
        asked,
        tuple(Reference(str(one)) for one in solutions),
        groups=present_groups(fields, {"difficulty": "difficulty"}),
        data={"tests": _tests(_parsed(fields.get("input_output"), "input_output"))},
    )


def _tests(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {}
    inputs, outputs = given.get("inputs", []), given.get("outputs", [])
    if len(inputs) != len(outputs):
        raise ValueError(f"input_output: {len(inputs)} inputs but {len(outputs)} outputs")
    found = {"inputs": list(inputs), "outputs": list(outputs)}
    return found | ({"fn_name": given["fn_name"]} if given.get("fn_name") else {})


def _parsed(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError as error:
        raise ValueError(f"{name}: not JSON ({error})") from None
