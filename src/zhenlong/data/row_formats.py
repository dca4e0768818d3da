"""Row formats: how each is detected from its fields, and the records it gives.

A converter takes the fields of one row and returns one or several records. It raises `ValueError` with the field and
what was expected; `reader` adds file and line. If a format has no converter for the requested kind, `convert_row` casts
from a kind for which it has one (`record_casts.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from zhenlong.data.field_parsing import (
    Fields,
    extra_columns,
    field_text,
    parse_bool,
    parse_hh_transcript,
    parse_prompt,
    parse_response,
    require_text_only,
    single_response_text,
    split_shared_prompt,
)
from zhenlong.data.message_parsing import add_system_and_tools, parse_messages
from zhenlong.data.message_trees import path_demonstrations, reply_rankings
from zhenlong.data.ranked_responses import RESPONSE_LIST_FIELDS, has_scores, parse_ranked_responses
from zhenlong.data.record_casts import can_cast, cast_record
from zhenlong.records import (
    RECORD_KINDS,
    Demonstration,
    Document,
    Message,
    Messages,
    Ranking,
    Rating,
    Record,
    Task,
    from_json,
    map_collecting_errors,
)

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


_SYSTEM_AND_TOOLS: Final = ("system", "system_prompt", "tools", "functions")  # functions: OpenAI's name before tools


def _with_system_columns(messages: Messages, fields: Fields) -> Messages:
    system, tools = _one_of(fields, "system", "system_prompt"), _one_of(fields, "tools", "functions")
    return add_system_and_tools(messages, system, tools)


def _one_of(fields: Fields, first: str, second: str) -> Any:
    """The value of the only one of two columns that a row has."""
    if fields.get(first) and fields.get(second):
        raise ValueError(f"{first}, {second}: expected one of them, got both")
    return fields.get(first) or fields.get(second)


# Preferences


def _pair_ranking(prompt: Messages, chosen: str, rejected: str, fields: Fields, *used_fields: str) -> Ranking:
    known = ("strength", "annotator")
    strength, annotator = (fields.get(name) for name in known)
    meta = extra_columns(fields, "prompt", "chosen", "rejected", *_SYSTEM_AND_TOOLS, *known, *used_fields)
    level = int(strength) if isinstance(strength, str) and strength.isdigit() else strength
    return Ranking(prompt, (chosen, rejected), (1, 2), level, annotator, meta=meta)


def _explicit_preference(fields: Fields, prompt_field: str = "prompt") -> Ranking:
    prompt = parse_prompt(fields[prompt_field], prompt_field)
    chosen, rejected = map_collecting_errors(
        parse_response, [(fields[side], side, prompt) for side in ("chosen", "rejected")]
    )
    return _pair_ranking(_with_system_columns(prompt, fields), chosen, rejected, fields, prompt_field)


def _implicit_preference(fields: Fields, chosen_field: str = "chosen", rejected_field: str = "rejected") -> Ranking:
    prompt, chosen, rejected = split_shared_prompt(
        parse_messages(fields[chosen_field], chosen_field), parse_messages(fields[rejected_field], rejected_field)
    )
    return _pair_ranking(_with_system_columns(prompt, fields), chosen, rejected, fields, chosen_field, rejected_field)


def _hh_transcript_preference(fields: Fields) -> Ranking:
    return _pair_ranking(
        *split_shared_prompt(
            parse_hh_transcript(fields["chosen"], "chosen"), parse_hh_transcript(fields["rejected"], "rejected")
        ),
        fields,
    )


def _alpaca_preference(fields: Fields) -> Ranking:
    prompt = _alpaca_prompt(fields)
    chosen, rejected = map_collecting_errors(
        parse_response, [(fields[side], side, prompt) for side in ("chosen", "rejected")]
    )
    return _pair_ranking(prompt, chosen, rejected, fields, "instruction", "input", "history")


def _two_output_preference(fields: Fields, prompt_field: str, label_field: str) -> Ranking:
    prompt = (
        _alpaca_prompt(fields)
        if prompt_field == "instruction"
        else _with_system_columns(parse_prompt(fields[prompt_field], prompt_field), fields)
    )
    outputs = map_collecting_errors(parse_response, [(fields[side], side, prompt) for side in ("output_1", "output_2")])
    label = str(fields[label_field])
    if label not in ("1", "2"):
        raise ValueError(
            f"{label_field}: expected 1 or 2, the number of the better output, got {fields[label_field]!r}"
        )
    chosen, rejected = outputs if label == "1" else reversed(outputs)
    return _pair_ranking(prompt, chosen, rejected, fields, "instruction", "input", "output_1", "output_2", label_field)


def _ranked_responses(fields: Fields, responses_field: str, prompt_field: str) -> Ranking:
    prompt = (
        _alpaca_prompt(fields)
        if prompt_field == "instruction"
        else _with_system_columns(parse_prompt(fields[prompt_field], prompt_field), fields)
    )
    return parse_ranked_responses(fields, prompt, responses_field)


# Ratings


def _prompt_rating(fields: Fields) -> Rating:
    prompt = parse_prompt(fields["prompt"], "prompt")
    response = parse_response(fields["completion"], "completion", prompt)
    meta = extra_columns(fields, "prompt", "completion", "label", *_SYSTEM_AND_TOOLS)
    return Rating(_with_system_columns(prompt, fields), response, parse_bool(fields["label"], "label"), meta)


def _messages_rating(fields: Fields, messages_field: str, label_field: str) -> Rating:
    messages = _with_system_columns(parse_messages(fields[messages_field], messages_field), fields)
    meta = extra_columns(fields, messages_field, label_field, *_SYSTEM_AND_TOOLS)
    return Rating(
        messages[:-1],
        single_response_text(messages[-1:], messages_field),
        parse_bool(fields[label_field], label_field),
        meta,
    )


# Demonstrations


def _messages_demonstration(fields: Fields, messages_field: str) -> Demonstration:
    messages = _with_system_columns(parse_messages(fields[messages_field], messages_field), fields)
    return Demonstration(messages, meta=extra_columns(fields, messages_field, *_SYSTEM_AND_TOOLS))


def _alpaca_prompt(fields: Fields, context_field: str = "input") -> Messages:
    question = "\n\n".join(
        part for part in (field_text(fields, "instruction"), field_text(fields, context_field, "")) if part.strip()
    )
    if not question:
        raise ValueError("instruction: expected some text, got none")
    earlier: list[Message] = []
    for exchange in fields.get("history") or ():
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise ValueError("history: expected a list of pairs of question and answer")
        earlier += [Message("user", exchange[0]), Message("assistant", exchange[1])]
    return _with_system_columns((*earlier, Message("user", question)), fields)


def _alpaca_demonstration(fields: Fields, context_field: str = "input", answer_field: str = "output") -> Demonstration:
    answer = Message("assistant", field_text(fields, answer_field))
    meta = extra_columns(fields, "instruction", context_field, answer_field, "history", *_SYSTEM_AND_TOOLS)
    return Demonstration((*_alpaca_prompt(fields, context_field), answer), meta=meta)


def _response_demonstration(fields: Fields, prompt_field: str) -> Demonstration:
    prompt = parse_prompt(fields[prompt_field], prompt_field)
    answer = Message("assistant", parse_response(fields["response"], "response", prompt))
    meta = extra_columns(fields, prompt_field, "response", *_SYSTEM_AND_TOOLS)
    return Demonstration((*_with_system_columns(prompt, fields), answer), meta=meta)


def _exchanges_demonstration(fields: Fields) -> Demonstration:
    """Capybara: a list of exchanges with `input` and `output`."""
    turns: list[Message] = []
    for number, exchange in enumerate(fields["conversation"]):
        place = f"conversation[{number}]"
        if not isinstance(exchange, Mapping):
            raise ValueError(f"{place}: expected an object with input and output, got {type(exchange).__name__}")
        try:
            question, answer = (field_text(exchange, name) for name in ("input", "output"))
        except ValueError as error:
            raise ValueError(f"{place}.{error}") from None
        turns += [Message("user", question), Message("assistant", answer)]
    messages = _with_system_columns(tuple(turns), fields)
    return Demonstration(messages, meta=extra_columns(fields, "conversation", *_SYSTEM_AND_TOOLS))


def _openai_preference(fields: Fields) -> Ranking:
    """OpenAI's preference fine-tuning: `input` with messages and tools, and the two outputs."""
    given = fields["input"]
    turns = parse_messages(given.get("messages"), "input.messages")
    prompt = add_system_and_tools(turns, None, given.get("tools"))
    sides = ("preferred_output", "non_preferred_output")
    chosen, rejected = map_collecting_errors(parse_response, [(fields[side], side, prompt) for side in sides])
    return _pair_ranking(prompt, chosen, rejected, fields, "input", *sides)


def _flan_demonstration(fields: Fields) -> Demonstration:
    prompt, answer = (
        _with_system_columns(parse_prompt(fields["inputs"], "inputs"), fields),
        Message("assistant", field_text(fields, "targets")),
    )
    return Demonstration((*prompt, answer), meta=extra_columns(fields, "inputs", "targets", *_SYSTEM_AND_TOOLS))


def _completion_demonstration(fields: Fields) -> Demonstration:
    prompt = parse_prompt(fields["prompt"], "prompt")
    answer = Message("assistant", parse_response(fields["completion"], "completion", prompt))
    return Demonstration(
        (*_with_system_columns(prompt, fields), answer),
        meta=extra_columns(fields, "prompt", "completion", *_SYSTEM_AND_TOOLS),
    )


# Questions with an answer, prompts alone, text

_GSM8K_ANSWER: Final = re.compile(r"####[ \t]*(\S[^\n]*?)\s*$")


def _answer_task(fields: Fields, question_field: str, answer_field: str) -> Task:
    """GSM8K ends its worked answers with `#### 18`: the reference is what follows, without thousands separators."""
    prompt = _with_system_columns(parse_prompt(fields[question_field], question_field), fields)
    reference = _answer_text(fields, answer_field)
    final = _GSM8K_ANSWER.search(reference)
    if final:
        reference = re.sub(r"(?<=\d),(?=\d{3})", "", final[1])
    verifier = "math" if final or question_field == "problem" else "exact"
    return _with_task_columns(Task(prompt, reference, fields.get("verifier") or verifier), fields)


def _answer_demonstration(fields: Fields, question_field: str, answer_field: str) -> Demonstration:
    """The worked solution if the row has one besides the bare answer."""
    prompt = _with_system_columns(parse_prompt(fields[question_field], question_field), fields)
    solution_field = answer_field if fields.get("solution") is None else "solution"
    meta = extra_columns(fields, question_field, solution_field, *_SYSTEM_AND_TOOLS)
    return Demonstration((*prompt, Message("assistant", _answer_text(fields, solution_field))), meta=meta)


def _answer_text(fields: Fields, name: str) -> str:
    """An answer as text; numbers are accepted, lists are not."""
    value = fields[name]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else field_text(fields, name)


def _prompt_task(fields: Fields) -> Task:
    prompt = _with_system_columns(parse_prompt(fields["prompt"], "prompt"), fields)
    return _with_task_columns(Task(prompt, verifier=fields.get("verifier") or ""), fields)


def _with_task_columns(task: Task, fields: Fields) -> Task:
    arguments, groups = fields.get("arguments") or {}, fields.get("groups") or {}
    meta = {name: value for name, value in fields.items() if name != "prompt" or isinstance(value, str)}
    return Task(task.prompt, task.reference, task.verifier, arguments, groups, meta)


def _document(fields: Fields) -> Document:
    return Document(field_text(fields, "text"), field_text(fields, "source", ""))


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
            partial(_ranked_responses, responses_field=responses_field, prompt_field=prompt_field),
            matches=partial(has_scores, responses_field=responses_field),
        )
        for prompt_field in ("prompt", "instruction")
        for responses_field in RESPONSE_LIST_FIELDS
    ),
    _preference_format(
        "messages preference",
        ("chosen_messages", "rejected_messages"),
        partial(_implicit_preference, chosen_field="chosen_messages", rejected_field="rejected_messages"),
    ),
    _preference_format(
        "ShareGPT preference",
        ("conversations", "chosen", "rejected"),
        partial(_explicit_preference, prompt_field="conversations"),
    ),
    _preference_format("TRL preference", ("prompt", "chosen", "rejected"), _explicit_preference),
    _preference_format("Alpaca preference", ("instruction", "chosen", "rejected"), _alpaca_preference),
    *(
        _preference_format(
            f"two outputs and {label_field}",
            (prompt_field, "output_1", "output_2", label_field),
            partial(_two_output_preference, prompt_field=prompt_field, label_field=label_field),
        )
        for prompt_field, label_field in (("input", "label"), ("instruction", "preference"))
    ),
    _preference_format(
        "HH-RLHF transcript", ("chosen", "rejected"), _hh_transcript_preference, matches=_field_is("chosen", str)
    ),
    _preference_format("TRL preference, implicit prompt", ("chosen", "rejected"), _implicit_preference),
    *(
        RowFormat(
            f"rated {messages_field}",
            (messages_field, label_field),
            {Rating: partial(_messages_rating, messages_field=messages_field, label_field=label_field)},
            partial(_is_boolean_label, label_field=label_field),
        )
        for messages_field in ("messages", "conversations")
        for label_field in ("label", "kto_tag")
    ),
    _preference_format(
        "OpenAI preference",
        ("input", "preferred_output", "non_preferred_output"),
        _openai_preference,
        matches=_field_is("input", Mapping),
    ),
    RowFormat("TRL unpaired preference", ("prompt", "completion", "label"), {Rating: _prompt_rating}),
    RowFormat("prompt-completion", ("prompt", "completion"), {Demonstration: _completion_demonstration}),
    RowFormat(
        "ShareGPT",
        ("conversations",),
        {Demonstration: partial(_messages_demonstration, messages_field="conversations")},
    ),
    RowFormat("messages", ("messages",), {Demonstration: partial(_messages_demonstration, messages_field="messages")}),
    RowFormat("Alpaca", ("instruction", "output"), {Demonstration: _alpaca_demonstration}),
    RowFormat(
        "Dolly",
        ("instruction", "response"),
        {Demonstration: partial(_alpaca_demonstration, context_field="context", answer_field="response")},
    ),
    RowFormat(
        "Capybara", ("conversation",), {Demonstration: _exchanges_demonstration}, _field_is("conversation", list)
    ),
    RowFormat("FLAN", ("inputs", "targets"), {Demonstration: _flan_demonstration}),
    *(
        RowFormat(
            f"{q} and {a}",
            (q, a),
            {
                Task: partial(_answer_task, question_field=q, answer_field=a),
                Demonstration: partial(_answer_demonstration, question_field=q, answer_field=a),
            },
            _has_no_choices,
        )
        for q, a in _QUESTION_ANSWER_FIELDS
    ),
    *(
        RowFormat(
            f"{prompt_field} and response",
            (prompt_field, "response"),
            {Demonstration: partial(_response_demonstration, prompt_field=prompt_field)},
            _has_no_choices,
        )
        for prompt_field in ("question", "query", "prompt")
    ),
    RowFormat("prompt alone", ("prompt",), {Task: _prompt_task}, _has_no_choices),
    RowFormat("plain text", ("text",), {Document: _document}),
)
