"""Rows of rankings and ratings as records."""

from __future__ import annotations

from zhenlong.data.field_parsing import (
    SYSTEM_AND_TOOL_COLUMNS,
    Fields,
    extra_columns,
    parse_alpaca_prompt,
    parse_bool,
    parse_hh_transcript,
    parse_prompt,
    parse_response,
    single_response_text,
    split_shared_prompt,
    with_system_columns,
)
from zhenlong.data.message_parsing import add_system_and_tools, parse_messages
from zhenlong.data.ranked_responses import parse_ranked_responses
from zhenlong.records import Messages, Ranking, Rating, map_collecting_errors


def _pair_ranking(prompt: Messages, chosen: str, rejected: str, fields: Fields, *used_fields: str) -> Ranking:
    known = ("strength", "annotator")
    strength, annotator = (fields.get(name) for name in known)
    meta = extra_columns(fields, "prompt", "chosen", "rejected", *SYSTEM_AND_TOOL_COLUMNS, *known, *used_fields)
    level = int(strength) if isinstance(strength, str) and strength.isdigit() else strength
    return Ranking(prompt, (chosen, rejected), (1, 2), level, annotator, meta=meta)


def explicit_preference(fields: Fields, prompt_field: str = "prompt") -> Ranking:
    prompt = parse_prompt(fields[prompt_field], prompt_field)
    chosen, rejected = map_collecting_errors(
        parse_response, [(fields[side], side, prompt) for side in ("chosen", "rejected")]
    )
    return _pair_ranking(with_system_columns(prompt, fields), chosen, rejected, fields, prompt_field)


def implicit_preference(fields: Fields, chosen_field: str = "chosen", rejected_field: str = "rejected") -> Ranking:
    prompt, chosen, rejected = split_shared_prompt(
        parse_messages(fields[chosen_field], chosen_field), parse_messages(fields[rejected_field], rejected_field)
    )
    return _pair_ranking(with_system_columns(prompt, fields), chosen, rejected, fields, chosen_field, rejected_field)


def hh_transcript_preference(fields: Fields) -> Ranking:
    return _pair_ranking(
        *split_shared_prompt(
            parse_hh_transcript(fields["chosen"], "chosen"), parse_hh_transcript(fields["rejected"], "rejected")
        ),
        fields,
    )


def alpaca_preference(fields: Fields) -> Ranking:
    prompt = parse_alpaca_prompt(fields)
    chosen, rejected = map_collecting_errors(
        parse_response, [(fields[side], side, prompt) for side in ("chosen", "rejected")]
    )
    return _pair_ranking(prompt, chosen, rejected, fields, "instruction", "input", "history")


def two_output_preference(fields: Fields, prompt_field: str, label_field: str) -> Ranking:
    prompt = (
        parse_alpaca_prompt(fields)
        if prompt_field == "instruction"
        else with_system_columns(parse_prompt(fields[prompt_field], prompt_field), fields)
    )
    outputs = map_collecting_errors(parse_response, [(fields[side], side, prompt) for side in ("output_1", "output_2")])
    label = str(fields[label_field])
    if label not in ("1", "2"):
        raise ValueError(
            f"{label_field}: expected 1 or 2, the number of the better output, got {fields[label_field]!r}"
        )
    chosen, rejected = outputs if label == "1" else reversed(outputs)
    return _pair_ranking(prompt, chosen, rejected, fields, "instruction", "input", "output_1", "output_2", label_field)


def ranked_responses(fields: Fields, responses_field: str, prompt_field: str) -> Ranking:
    prompt = (
        parse_alpaca_prompt(fields)
        if prompt_field == "instruction"
        else with_system_columns(parse_prompt(fields[prompt_field], prompt_field), fields)
    )
    return parse_ranked_responses(fields, prompt, responses_field)


def prompt_rating(fields: Fields) -> Rating:
    prompt = parse_prompt(fields["prompt"], "prompt")
    response = parse_response(fields["completion"], "completion", prompt)
    meta = extra_columns(fields, "prompt", "completion", "label", *SYSTEM_AND_TOOL_COLUMNS)
    return Rating(with_system_columns(prompt, fields), response, parse_bool(fields["label"], "label"), meta)


def messages_rating(fields: Fields, messages_field: str, label_field: str) -> Rating:
    messages = with_system_columns(parse_messages(fields[messages_field], messages_field), fields)
    meta = extra_columns(fields, messages_field, label_field, *SYSTEM_AND_TOOL_COLUMNS)
    return Rating(
        messages[:-1],
        single_response_text(messages[-1:], messages_field),
        parse_bool(fields[label_field], label_field),
        meta,
    )


def openai_preference(fields: Fields) -> Ranking:
    """OpenAI's preference fine-tuning: `input` with messages and tools, and the two outputs."""
    given = fields["input"]
    turns = parse_messages(given.get("messages"), "input.messages")
    prompt = add_system_and_tools(turns, None, given.get("tools"))
    sides = ("preferred_output", "non_preferred_output")
    chosen, rejected = map_collecting_errors(parse_response, [(fields[side], side, prompt) for side in sides])
    return _pair_ranking(prompt, chosen, rejected, fields, "input", *sides)
