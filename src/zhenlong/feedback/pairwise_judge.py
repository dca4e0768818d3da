"""What a model is asked about two answers, and what its reply says: which is better, and how much (1 to 4).

The wording is our own. The four levels are those of Llama 2's annotators (Touvron et al. 2023, §3.2.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from zhenlong.records import STRENGTHS, Message, Messages
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.judge_parsing import Verdict, read_graded_winner

DEFAULT_CRITERION: Final = (
    "Which answer serves the person better? Weigh whether each does what was asked, is correct, harmless and to the "
    "point."
)
_LEVELS: Final = ", ".join(f"{level} {name}" for level, name in STRENGTHS.items())
_PROMPT_TEMPLATE: Final = (
    "Two assistants answered the last turn of the conversation below. {question} Neither the order in which the "
    "answers are shown nor their length counts.\n\n"
    "[Conversation]\n{conversation}\n[End of the conversation]\n\n"
    "[Answer A]\n{a}\n[End of answer A]\n\n[Answer B]\n{b}\n[End of answer B]\n\n"
    "{how} the verdict in double brackets: the letter of the better answer and how much better it is, from 1 to 4 "
    f"({_LEVELS}). For example [[A2]] if answer A is slightly better, [[B4]] if answer B is significantly better. "
    "There is no tie: where you are unsure, choose, and say 1."
)
_REASONING_INSTRUCTION: Final = "Compare the answers in a few sentences first. Then end with"
_VERDICT_ONLY_INSTRUCTION: Final = "Reply with nothing but"


@dataclass(frozen=True)
class PairwiseVerdict:
    """One reply: whether the answer shown first is the better one, and how much better the better one is, 1 to 4."""

    first_is_better: bool
    strength: int


def read_verdict(text: str) -> Verdict:
    """The last `[[A1]]` to `[[B4]]` of a reply as a `PairwiseVerdict`; None with the reason where there is none."""
    found = read_graded_winner(text)
    if found.value is None:
        return found
    letter, strength = found.value
    return Verdict(PairwiseVerdict(letter == "A", strength))


def comparison_messages(prompt: Messages, a: str, b: str, *, criterion: str = "", reasoning: bool = True) -> Messages:
    """The conversation that asks for a verdict on two answers to `prompt`.

    `criterion` says what to judge by in place of the general quality of an answer; with `reasoning` the model compares
    the answers in words before its verdict.
    """
    slots = {
        "question": criterion or DEFAULT_CRITERION,
        "conversation": format_transcript(prompt),
        "a": strip_reasoning(a),
        "b": strip_reasoning(b),
        "how": _REASONING_INSTRUCTION if reasoning else _VERDICT_ONLY_INSTRUCTION,
    }
    # the format's own braces only: what is put in is not searched again
    return (Message("user", re.sub(r"\{(\w+)\}", lambda match: slots.get(match[1], match[0]), _PROMPT_TEMPLATE)),)


def format_transcript(prompt: Messages) -> str:
    """A conversation as text, a blank line between the turns."""
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in prompt)
