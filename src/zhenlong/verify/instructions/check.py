"""Which of a prompt's instructions a response follows, by IFEval's strict or loose rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.instructions import formats, keywords, lengths, response_level

InstructionCheck = Callable[..., bool]  # (response, **arguments of the row)
INSTRUCTIONS: Final[dict[str, InstructionCheck]] = {
    "keywords:existence": keywords.has_keywords,
    "keywords:frequency": keywords.keyword_frequency,
    "keywords:forbidden_words": keywords.no_forbidden_words,
    "keywords:letter_frequency": keywords.letter_frequency,
    "language:response_language": response_level.in_language,
    "length_constraints:number_sentences": lengths.number_of_sentences,
    "length_constraints:number_paragraphs": lengths.number_of_paragraphs,
    "length_constraints:number_words": lengths.number_of_words,
    "length_constraints:nth_paragraph_first_word": lengths.first_word_of_paragraph,
    "detectable_content:number_placeholders": formats.number_of_placeholders,
    "detectable_content:postscript": formats.has_postscript,
    "detectable_format:number_bullet_lists": formats.number_of_bullets,
    "detectable_format:constrained_response": formats.constrained_response,
    "detectable_format:number_highlighted_sections": formats.number_of_highlights,
    "detectable_format:multiple_sections": formats.number_of_sections,
    "detectable_format:json_format": formats.is_json,
    "detectable_format:title": formats.has_title,
    "combination:two_responses": response_level.two_responses,
    "combination:repeat_prompt": response_level.repeats_prompt,
    "startend:end_checker": response_level.ends_with,
    "startend:quotation": response_level.is_quoted,
    "change_case:capital_word_frequency": keywords.capital_word_frequency,
    "change_case:english_capital": response_level.english_capitals,
    "change_case:english_lowercase": response_level.english_lowercase,
    "punctuation:no_comma": response_level.no_comma,
}


def check_instructions(
    response: str,
    *,
    instruction_id_list: Sequence[str],
    kwargs: Sequence[Mapping[str, Any] | None] = (),
    loose: bool = False,
    partial_credit: bool = False,
) -> float:
    """1.0 when the response follows all instructions, else 0.0; with `partial_credit`, the fraction of them that it
    follows.
    """
    followed_flags = instructions_followed(response, instruction_id_list, kwargs, loose=loose)
    return sum(followed_flags) / len(followed_flags) if partial_credit else float(all(followed_flags))


def instructions_followed(
    response: str,
    instruction_ids: Sequence[str],
    kwargs: Sequence[Mapping[str, Any] | None] = (),
    *,
    loose: bool = False,
) -> list[bool]:
    """Whether each instruction is followed: `instruction_ids` and `kwargs` are a row's `instruction_id_list` and
    `kwargs`.

    Strict checks the response, loose accepts any of its eight `loose_variants`; a blank variant follows nothing. A
    reasoning trace is not part of the response. Arguments that are None count as absent; 0 is a value. Raises UserError
    for an unknown kind, and for unknown or missing arguments.
    """
    if not instruction_ids or (kwargs and len(kwargs) != len(instruction_ids)):
        raise UserError(
            f"instructions: expected one or more kinds and as many kwargs, got {len(instruction_ids)}, {len(kwargs)}"
        )
    response = strip_reasoning(response)
    variants = [form for form in (loose_variants(response) if loose else [response]) if form.strip()]
    followed_flags = []
    for kind, given in zip(instruction_ids, kwargs or [None] * len(instruction_ids), strict=True):
        check, arguments = _find_check(kind), _check_arguments(kind, given or {})
        followed_flags.append(any(check(form, **arguments) for form in variants))
    return followed_flags


def loose_variants(response: str) -> list[str]:
    """The response itself; without its first line, its last, and both; and these four without any `*`."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(form.replace("*", "") for form in cut)]


def _find_check(instruction_id: str) -> InstructionCheck:
    if instruction_id not in INSTRUCTIONS:
        raise UserError(
            f"instruction {instruction_id!r} is not known; expected one of {', '.join(sorted(INSTRUCTIONS))}"
        )
    return INSTRUCTIONS[instruction_id]


def _check_arguments(instruction_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {name: value for name, value in given.items() if value is not None}
    needed = list(inspect.signature(INSTRUCTIONS[instruction_id]).parameters)[1:]
    if set(arguments) != set(needed):
        got = ", ".join(arguments) or "none"
        raise UserError(f"instruction {instruction_id}: expected arguments {', '.join(needed) or 'none'}, got {got}")
    return arguments
