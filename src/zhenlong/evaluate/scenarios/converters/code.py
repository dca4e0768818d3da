"""Converters for programming problems: HumanEval, MBPP, LiveCodeBench. APPS is in helm_answers.py."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import group_values, text_field
from zhenlong.evaluate.scenarios.instances import converter

WITH_STARTER: Final = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters."
)
WITHOUT_STARTER: Final = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample "
    "inputs). Enclose your code within delimiters as follows."
)
ZLIB: Final = b"\x78"  # first byte of zlib data


@converter("humaneval")
def humaneval(
    fields: Fields,
    *,
    extraction: str = "completion",
    packages: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
) -> Instance:
    """HumanEval: task_id, prompt, entry_point, canonical_solution, test.

    `extraction` as in verify/code_extraction.py.
    """
    prompt = text_field(fields, "prompt")
    tests: dict[str, Any] = {
        "kind": "check",
        "extraction": extraction,
        "prompt": prompt,
        "entry_point": text_field(fields, "entry_point"),
        "test": text_field(fields, "test"),
    }
    tests |= {"packages": list(packages)} if packages else {}
    solution = str(fields.get("canonical_solution") or "")
    references = (Reference(solution),) if solution else ()
    return Instance("", prompt, references, groups=group_values(fields, groups), data={"tests": tests})


@converter("mbpp")
def mbpp(fields: Fields, *, extraction: str = "block", only: Sequence[int] = ()) -> list[Instance]:
    """MBPP: task_id, text (or prompt), code, test_list, and optionally test_setup_code, test_imports.

    Set-up code instantiates classes of the solution, so those tests run in the solution's process. `only` restricts to
    these task ids, such as the three of the paper's prompt.
    """
    if only and int(fields["task_id"]) not in only:
        return []
    asserts = fields["test_list"]
    if not isinstance(asserts, list) or not asserts:
        raise ValueError(f"test_list: expected assertions, got {asserts!r}")
    described = text_field(fields, "text" if "text" in fields else "prompt")
    shown = "".join(f"{one}\n" for one in asserts)
    asked = (
        f"You are an expert Python programmer, and here is your task: {described} "
        f"Your code should pass these tests:\n\n{shown}[BEGIN]\n"
    )
    setup = str(fields.get("test_setup_code") or "")
    tests = {
        "kind": "asserts",
        "extraction": extraction,
        "asserts": list(asserts),
        "imports": list(fields.get("test_imports") or ()),
        "setup": setup,
        "same_process": bool(setup.strip()),
    }
    return [Instance("", asked, (Reference(str(fields.get("code") or "")),), data={"tests": tests})]


@converter("livecodebench")
def livecodebench(
    fields: Fields, *, since: str = "", until: str = "", extraction: str = "block", packages: Sequence[str] = ()
) -> list[Instance]:
    """LiveCodeBench code generation with its runner's prompt. `since` and `until` are contest dates, both inclusive.

    The tests stay encoded until they are needed: decoded, a release takes gigabytes.
    """
    day = _day(fields, "contest_date")
    if (since and day < since) or (until and day > until):
        return []
    public, private = str(fields["public_test_cases"]), str(fields["private_test_cases"])
    for name, given in (("public_test_cases", public), ("private_test_cases", private)):
        _check_encoded(name, given)
    function = _function(fields)
    tests: dict[str, Any] = {
        "kind": "functional" if function else "stdin",
        "extraction": extraction,
        "prelude": "livecodebench",
        "public_test_cases": public,
        "private_test_cases": private,
        "packages": list(packages),
    }
    tests |= {"function": function} if function else {}
    groups = group_values(fields, {name: name for name in ("platform", "difficulty") if name in fields})
    return [Instance("", _livecodebench_prompt(fields), groups={**groups, "month": day[:7]}, data={"tests": tests})]


def _livecodebench_prompt(fields: Fields) -> str:
    starter = str(fields.get("starter_code") or "")
    form, code = (WITH_STARTER, starter) if starter else (WITHOUT_STARTER, "# YOUR CODE HERE")
    question = text_field(fields, "question_content")
    return (
        f"### Question:\n{question}\n\n### Format: {form}\n```python\n{code}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )


def _function(fields: Fields) -> str:
    """The name of the required method; empty if the program reads standard input."""
    given = fields.get("metadata") or {}
    try:
        metadata = json.loads(given) if isinstance(given, str) else given
        return str(metadata.get("func_name") or "")
    except (ValueError, AttributeError):
        raise ValueError(f"metadata: expected an object in JSON, got {str(given)[:60]!r}") from None


def _day(fields: Fields, name: str) -> str:
    try:
        return datetime.fromisoformat(str(fields[name])).date().isoformat()
    except ValueError:
        raise ValueError(f"{name}: expected a date such as 2024-05-01, got {fields[name]!r}") from None


def _check_encoded(name: str, given: str) -> None:
    """Raise `ValueError` for a string that cannot be encoded tests, judged by its first byte only."""
    if given.lstrip().startswith("["):
        return
    try:
        begins = base64.b64decode(given[:64], validate=True)
    except binascii.Error:
        begins = b""
    if not begins.startswith(ZLIB):
        raise ValueError(f"{name}: expected tests as JSON, or as base64 of zlib; got {given[:40]!r}")
