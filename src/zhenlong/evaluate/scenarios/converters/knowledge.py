"""Converters for MMLU, MMLU-Pro and GPQA: choices, instructions by subject, worked examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import CHOICE_LETTERS, text_field
from zhenlong.evaluate.scenarios.instances import converter

PART: Final = re.compile(r"_(?:test|dev|val)$")  # suffix of file names in hendrycks/test
THOUGHT: Final = re.compile(r"^A: (Let's think step by step\.)?")
SUBJECT_INSTRUCTIONS: Final = "The following are multiple choice questions (with answers) about {subject}.\n"


@converter("mmlu")
def mmlu(
    fields: Fields,
    *,
    choices: str | Sequence[str] = "choices",
    answer: str = "answer",
    instructions: str = SUBJECT_INSTRUCTIONS,
) -> Instance:
    """`question`, the choices, and the index of the right one (or its letter). The subject is in the instructions.

    `{subject}` in `instructions` is the row's subject, else the name of its file; without either the instructions name
    no subject.
    """
    listed = fields[choices] if isinstance(choices, str) else [fields[one] for one in choices]
    subject = str(fields.get("subject") or PART.sub("", str(fields.get("file", ""))))
    return Instance(
        "",
        text_field(fields, "question").strip(),
        _references([str(one) for one in listed], fields[answer], answer),
        groups={"subject": subject} if subject else {},
        data={"instructions": _name_subject(instructions, subject)},
    )


def _name_subject(instructions: str, subject: str) -> str:
    """The instructions about the subject, or about nothing in particular where a row names none."""
    if not subject:
        return instructions.replace(" about {subject}", "")
    return instructions.replace("{subject}", subject.replace("_", " "))


@converter("mmlu_pro")
def mmlu_pro(fields: Fields, *, instructions: str) -> Instance:
    """`question`, `options` ("N/A" is dropped), `answer` (a letter), `category`, and `cot_content`.

    `{category}` in `instructions` is replaced by the row's. An example's reasoning is the text after "A: Let's think
    step by step.", which the prompt already contains.
    """
    category = text_field(fields, "category")
    options = [str(one) for one in fields["options"] if one != "N/A"]
    data = {"instructions": instructions.replace("{category}", category)}
    thought = str(fields.get("cot_content") or "")
    if thought:
        data["example"] = THOUGHT.sub("", thought)
    return Instance(
        "",
        text_field(fields, "question"),
        _references(options, fields["answer"], "answer"),
        groups={"category": category},
        data=data,
    )


@converter("gpqa")
def gpqa(fields: Fields) -> Instance:
    """`Question`, `Correct Answer`, `Incorrect Answer 1` to `3`, in random order.

    The seed is `Record ID`, else the question itself, so the order is the same in every run and for every model.
    """
    question = text_field(fields, "Question").strip()
    wrong = [text_field(fields, f"Incorrect Answer {number}") for number in (1, 2, 3)]
    choices = [(text_field(fields, "Correct Answer"), True), *((one, False) for one in wrong)]
    Random(str(fields.get("Record ID") or question)).shuffle(choices)
    groups = {"domain": str(fields["High-level domain"])} if fields.get("High-level domain") else {}
    return Instance("", question, tuple(Reference(one.strip(), right) for one, right in choices), groups=groups)


def _references(choices: Sequence[str], answer: Any, name: str) -> tuple[Reference, ...]:
    given = str(answer).strip()
    place = CHOICE_LETTERS.find(given) if len(given) == 1 and given.isalpha() else int(given) if given.isdigit() else -1
    if not 0 <= place < len(choices):
        raise ValueError(f"{name}: {given!r} is no index of the {len(choices)} choices")
    return tuple(Reference(one, number == place) for number, one in enumerate(choices))
