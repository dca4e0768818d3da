"""The answer in what a model said: the text after its reasoning trace, or the reason why there is none.

Every metric, verifier, reward and judge request reads answers through this module. `Answer.text` is what the model
wrote, without the trace; `Answer.plain` is the same with typographic characters as ASCII, for readers of answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal
from unicodedata import normalize

MissingAnswer = Literal["", "unclosed_reasoning", "empty"]
EMPTY_ANSWER: Final = "empty"
UNCLOSED_REASONING: Final = "unclosed_reasoning"

# Magistral writes [THINK], Kimi ◁think▷, Sky-T1 <|begin_of_thought|>, Cohere <|START_THINKING|>, Seed-OSS <seed:think>,
# Gemma <|channel>thought, and gpt-oss the channels analysis and final
_NAMES: Final = r"(?i:think|thinking|thought|reasoning|seed:think|scratchpad|antthinking)"
_OPENING: Final = re.compile(
    rf"<{_NAMES}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|"
    r"<\|channel\|>(?:analysis|commentary)[^<]{0,80}<\|message\|>|<\|channel>thought"
)
_CLOSING: Final = re.compile(
    rf"</{_NAMES}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|"
    r"<\|channel\|>final[^<]{0,80}<\|message\|>|<channel\|>"
)
_WRAPPERS: Final = re.compile(  # what some models put around the answer itself
    r"<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>|<\|return\|>\s*\Z"
)
_TRACE_MARK: Final = re.compile(r"[<\[◁]")  # without one of these there is no trace to look for
_QUOTES: Final = "`\"'"

_PLAIN: Final = str.maketrans(
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width forms
    | {code: normalize("NFKC", chr(code)) for code in (*range(0x1D400, 0x1D800), *range(0x24B6, 0x24EA))}  # 𝐁, Ⓑ
    | dict.fromkeys(map(ord, "‘’‛‚ʼ´"), "'")
    | dict.fromkeys(map(ord, "“”„‟«»"), '"')
    | dict.fromkeys((0x3000, 0x00A0, 0x202F, *range(0x2000, 0x200B)), " ")
    | dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD), None)  # invisible
    | dict.fromkeys(map(ord, "−‐‑"), "-")
    | {ord("…"): "..."}
)


@dataclass(frozen=True)
class Answer:
    """What a model answered. `missing` says why there is no answer; then the text is empty."""

    text: str = ""
    missing: MissingAnswer = ""

    @property
    def plain(self) -> str:
        """The text with straight quotes, and full-width forms, dashes and spaces as ASCII."""
        return plain_characters(self.text)


def read_answer(content: str, *, reasoning: str = "", in_reasoning: bool = False) -> Answer:
    """The answer in a response's content.

    The trace ends at the last closing tag; some chat templates write the opening tag, so it need not be there
    (`in_reasoning`: it is known that they did). A trace that is never closed ran into the token limit: there is no
    answer. `reasoning` is what an endpoint sent beside the content; it is no answer either. A tag in quotes or
    backticks is a word of the answer.
    """
    text, opened = _cut(content, in_reasoning)
    if opened:
        return Answer(missing=UNCLOSED_REASONING)
    if not text.strip():
        return Answer(missing=UNCLOSED_REASONING if reasoning.strip() and not content.strip() else EMPTY_ANSWER)
    return Answer(text)


def strip_reasoning(content: str) -> str:
    """The text of the answer; empty where there is none."""
    return read_answer(content).text


def plain_characters(text: str) -> str:
    """The text with straight quotes, and full-width forms, dashes and spaces as ASCII; invisible characters removed."""
    return text if text.isascii() else text.translate(_PLAIN)


def opens_reasoning(prompt: str) -> bool:
    """Whether a prompt ends with the opening tag of a trace, as the templates of some reasoning models do."""
    tail = prompt[-120:].rstrip()
    return any(found.end() == len(tail) for found in _OPENING.finditer(tail))


def names_reasoning(pattern: object) -> bool:
    """Whether a regular expression names a trace's tags, so that it is meant for the whole response."""
    return re.search(r"think|thought|reasoning|analysis", str(pattern), re.IGNORECASE) is not None


def _cut(text: str, opened: bool) -> tuple[str, bool]:
    """The text without the trace, and whether a trace is open at its end."""
    if not _TRACE_MARK.search(text):
        return text, opened
    end = max((found.end() for found in _tags(_CLOSING, text)), default=0)
    if end:
        before = text[: next((found.start() for found in _tags(_OPENING, text)), 0)]
        after = text[end:].lstrip()
        text, opened = after or before.rstrip(), False
    opened = opened or next(_tags(_OPENING, text), None) is not None
    return _WRAPPERS.sub("", text), opened


def _tags(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The matches that are not in quotes."""
    for found in pattern.finditer(text):
        before, after = text[max(0, found.start() - 1) : found.start()], text[found.end() : found.end() + 1]
        if not (before and before in _QUOTES and after == before):
            yield found
