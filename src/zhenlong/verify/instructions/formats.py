"""Format instructions: bullets, highlights, sections, placeholders, title, postscript, JSON, constrained responses."""

from __future__ import annotations

import json
import re
from typing import Final

from zhenlong.verify.bounded_regex import regex_matches, regex_search, regex_split
from zhenlong.verify.instructions.arguments import to_pattern

CONSTRAINED_RESPONSES: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES: Final = ("```json", "```Json", "```JSON", "```")
_POSTSCRIPTS: Final = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}


def number_of_placeholders(response: str, num_placeholders: int) -> bool:
    """detectable_content:number_placeholders: at least this many `[in square brackets]`."""
    return len(regex_matches(r"\[.*?\]", response)) >= num_placeholders


def has_postscript(response: str, postscript_marker: str) -> bool:
    """detectable_content:postscript: the marker somewhere, in any case; `P.S.` and `P.P.S` also with spaces."""
    marker = postscript_marker.strip()
    pattern = _POSTSCRIPTS.get(marker, rf"\s*{to_pattern(marker.lower())}.*$")
    return regex_search(pattern, response.lower(), re.MULTILINE) is not None


def number_of_bullets(response: str, num_bullets: int) -> bool:
    """detectable_format:number_bullet_lists: exactly this many lines that begin with `*` (not `**`) or `-`."""
    stars = regex_matches(r"^\s*\*[^\*].*$", response, re.MULTILINE)
    dashes = regex_matches(r"^\s*-.*$", response, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def constrained_response(response: str) -> bool:
    """detectable_format:constrained_response: one of the three answers yes, no and maybe occurs, as a sentence."""
    return any(option in response for option in CONSTRAINED_RESPONSES)


def number_of_highlights(response: str, num_highlights: int) -> bool:
    """detectable_format:number_highlighted_sections: at least this many non-empty `*highlights*`.

    Text in single and in double stars is counted separately and added, as in the official code: `*this*` and `**this**`
    count once, `***this***` twice.
    """
    single = regex_matches(r"\*[^\n\*]*\*", response)
    double = regex_matches(r"\*\*[^\n\*]*\*\*", response)
    filled = sum(bool(one[0].strip("*").strip()) for one in single)
    filled += sum(bool(one[0].removeprefix("**").removesuffix("**").strip()) for one in double)
    return filled >= num_highlights


def number_of_sections(response: str, section_spliter: str, num_sections: int) -> bool:
    """detectable_format:multiple_sections: at least this many headings such as `Section 1`."""
    return len(regex_split(rf"\s?{to_pattern(section_spliter.strip())}\s?\d+\s?", response)) - 1 >= num_sections


def is_json(response: str) -> bool:
    """detectable_format:json_format: the whole response is JSON, with or without a Markdown fence."""
    text = response.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def has_title(response: str) -> bool:
    """detectable_format:title: a non-empty `<<title in double angle brackets>>` on one line."""
    return any(title[0].lstrip("<").rstrip(">").strip() for title in regex_matches(r"<<[^\n]+>>", response))
