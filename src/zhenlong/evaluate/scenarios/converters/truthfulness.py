"""TruthfulQA's multiple choice: true and false answers to questions that people get wrong."""

from __future__ import annotations

from collections.abc import Mapping

from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import Fields, text_field
from zhenlong.evaluate.scenarios.instances import converter


@converter("truthful_choices")
def truthful_choices(fields: Fields, *, targets: str) -> Instance:
    """A question and its answers in the field `targets` (`mc1_targets` or `mc2_targets`).

    They are the hub's `{"choices": [...], "labels": [...]}`, or the repository's `{answer: label}`; 1 is true.
    """
    given = fields[targets]
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{targets}: expected answers with labels, got {given!r}")
    if set(given) == {"choices", "labels"}:
        choices, labels = list(given["choices"]), list(given["labels"])
        if len(choices) != len(labels):
            raise ValueError(f"{targets}: {len(choices)} choices and {len(labels)} labels; expected as many")
    else:
        choices, labels = list(given), list(given.values())
    if 1 not in labels:
        raise ValueError(f"{targets}: no answer is labelled 1, true")
    references = tuple(Reference(str(one), label == 1) for one, label in zip(choices, labels, strict=True))
    return Instance("", text_field(fields, "question"), references)
