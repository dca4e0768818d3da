"""Row formats: how each is detected from its fields, and the records it gives.

A converter takes the fields of one row and returns one or several records. It raises `ValueError` with the field and
what was expected; `reader` adds file and line. If a format has no converter for the requested kind, `convert_row` casts
from a kind for which it has one (`record_casts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from zhenlong.data.demonstration_rows import (
    alpaca_demonstration,
    answer_demonstration,
    answer_task,
    completion_demonstration,
    exchanges_demonstration,
    flan_demonstration,
    messages_demonstration,
    prompt_task,
    response_demonstration,
    text_document,
)
from zhenlong.data.field_parsing import Fields, parse_bool, require_text_only
from zhenlong.data.message_trees import path_demonstrations, reply_rankings
from zhenlong.data.preference_rows import (
    alpaca_preference,
    explicit_preference,
    hh_transcript_preference,
    implicit_preference,
    messages_rating,
    openai_preference,
    prompt_rating,
    ranked_responses,
    two_output_preference,
)
from zhenlong.data.ranked_responses import RESPONSE_LIST_FIELDS, has_scores
from zhenlong.data.record_casts import can_cast, cast_record
from zhenlong.records import RECORD_KINDS, Demonstration, Document, Messages, Ranking, Rating, Record, Task, from_json

RecordConverter = Callable[[Fields], Record | Sequence[Record]]


@dataclass(frozen=True)
class RowFormat:
    """A row has this format if it has `fields` and `matches` is true. `converters` maps a record kind to its
    converter.
    """

    name: str
    fields: tuple[str, ...]
    converters: Mapping[type[Record], RecordConverter]
    matches: Callable[[Fields], bool] = field(default=lambda fields: True)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.fields)})"


def detect_format(fields: Fields) -> RowFormat | None:
    """The first format that matches a row, or None. A field with a null value counts as missing."""
    present = {name for name, value in fields.items() if value is not None}
    return next((f for f in ROW_FORMATS if present.issuperset(f.fields) and f.matches(fields)), None)


def readable_kinds(row_format: RowFormat) -> tuple[type[Record], ...]:
    """The record kinds that rows of a format can be read as."""
    return tuple(
        kind for kind in RECORD_KINDS.values() if any(can_cast(given, kind) for given in row_format.converters)
    )


def convert_row(row_format: RowFormat, fields: Fields, kind: type[Record]) -> list[Record]:
    """The records of `kind` from one row: one record, two ratings from a preference, or all paths of a tree."""
    require_text_only(fields)
    source = (
        kind
        if kind in row_format.converters
        else next(given for given in row_format.converters if can_cast(given, kind))
    )
    converted = row_format.converters[source](fields)
    records = [_require_user_first(one) for one in (converted if isinstance(converted, Sequence) else [converted])]
    return records if source is kind else [found for one in records for found in cast_record(one, kind)]


def _require_user_first(record: Record) -> Record:
    """`record`, after checking that its conversation does not start with an assistant turn."""
    messages: Messages = getattr(record, "messages", getattr(record, "prompt", ()))
    if messages and messages[0].role not in ("system", "user"):
        raise ValueError(f"messages[0]: expected the system's or the user's turn first, got the {messages[0].role}'s")
    return record


def _native_record(fields: Fields, kind: str) -> Record:
    return from_json({name: value for name, value in fields.items() if value is not None})


def _field_is(name: str, *types: type) -> Callable[[Fields], bool]:
    return lambda fields: isinstance(fields[name], types)


def _has_no_choices(fields: Fields) -> bool:
    """Multiple-choice rows are not question-answer rows, because their options would be lost."""
    return not any(name.startswith("choice") for name in fields)


def _is_boolean_label(fields: Fields, label_field: str) -> bool:
    """A label that is neither true nor false is a category, and the row a plain conversation."""
    try:
        parse_bool(fields[label_field], label_field)
    except ValueError:
        return False
    return True


def _is_kind(fields: Fields, kind: str) -> bool:
    return fields["kind"] == kind


def _is_tree(fields: Fields) -> bool:
    return isinstance(fields["prompt"], Mapping)


def _preference_format(name: str, fields: tuple[str, ...], converter: RecordConverter, **rest: Any) -> RowFormat:
    return RowFormat(name, fields, {Ranking: converter}, **rest)


_QUESTION_ANSWER_FIELDS: Final = [(q, a) for q in ("question", "problem", "prompt") for a in ("answer", "reference")]
ROW_FORMATS: Final = (
    *(
        RowFormat(f"own {k}", ("kind",), {t: partial(_native_record, kind=k)}, partial(_is_kind, kind=k))
        for k, t in RECORD_KINDS.items()
    ),
    RowFormat(
        "message tree",
        ("message_tree_id", "prompt"),
        {Demonstration: path_demonstrations, Ranking: reply_rankings},
        _is_tree,
    ),
    *(
        _preference_format(
            f"scored {responses_field}",
            (prompt_field, responses_field),
            partial(ranked_responses, responses_field=responses_field, prompt_field=prompt_field),
            matches=partial(has_scores, responses_field=responses_field),
        )
        for prompt_field in ("prompt", "instruction")
        for responses_field in RESPONSE_LIST_FIELDS
    ),
    _preference_format(
        "messages preference",
        ("chosen_messages", "rejected_messages"),
        partial(implicit_preference, chosen_field="chosen_messages", rejected_field="rejected_messages"),
    ),
    _preference_format(
        "ShareGPT preference",
        ("conversations", "chosen", "rejected"),
        partial(explicit_preference, prompt_field="conversations"),
    ),
    _preference_format("TRL preference", ("prompt", "chosen", "rejected"), explicit_preference),
    _preference_format("Alpaca preference", ("instruction", "chosen", "rejected"), alpaca_preference),
    *(
        _preference_format(
            f"two outputs and {label_field}",
            (prompt_field, "output_1", "output_2", label_field),
            partial(two_output_preference, prompt_field=prompt_field, label_field=label_field),
        )
        for prompt_field, label_field in (("input", "label"), ("instruction", "preference"))
    ),
    _preference_format(
        "HH-RLHF transcript", ("chosen", "rejected"), hh_transcript_preference, matches=_field_is("chosen", str)
    ),
    _preference_format("TRL preference, implicit prompt", ("chosen", "rejected"), implicit_preference),
    *(
        RowFormat(
            f"rated {messages_field}",
            (messages_field, label_field),
            {Rating: partial(messages_rating, messages_field=messages_field, label_field=label_field)},
            partial(_is_boolean_label, label_field=label_field),
        )
        for messages_field in ("messages", "conversations")
        for label_field in ("label", "kto_tag")
    ),
    _preference_format(
        "OpenAI preference",
        ("input", "preferred_output", "non_preferred_output"),
        openai_preference,
        matches=_field_is("input", Mapping),
    ),
    RowFormat("TRL unpaired preference", ("prompt", "completion", "label"), {Rating: prompt_rating}),
    RowFormat("prompt-completion", ("prompt", "completion"), {Demonstration: completion_demonstration}),
    RowFormat(
        "ShareGPT",
        ("conversations",),
        {Demonstration: partial(messages_demonstration, messages_field="conversations")},
    ),
    RowFormat("messages", ("messages",), {Demonstration: partial(messages_demonstration, messages_field="messages")}),
    RowFormat("Alpaca", ("instruction", "output"), {Demonstration: alpaca_demonstration}),
    RowFormat(
        "Dolly",
        ("instruction", "response"),
        {Demonstration: partial(alpaca_demonstration, context_field="context", answer_field="response")},
    ),
    RowFormat("Capybara", ("conversation",), {Demonstration: exchanges_demonstration}, _field_is("conversation", list)),
    RowFormat("FLAN", ("inputs", "targets"), {Demonstration: flan_demonstration}),
    *(
        RowFormat(
            f"{q} and {a}",
            (q, a),
            {
                Task: partial(answer_task, question_field=q, answer_field=a),
                Demonstration: partial(answer_demonstration, question_field=q, answer_field=a),
            },
            _has_no_choices,
        )
        for q, a in _QUESTION_ANSWER_FIELDS
    ),
    *(
        RowFormat(
            f"{prompt_field} and response",
            (prompt_field, "response"),
            {Demonstration: partial(response_demonstration, prompt_field=prompt_field)},
            _has_no_choices,
        )
        for prompt_field in ("question", "query", "prompt")
    ),
    RowFormat("prompt alone", ("prompt",), {Task: prompt_task}, _has_no_choices),
    RowFormat("plain text", ("text",), {Document: text_document}),
)
