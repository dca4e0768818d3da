"""Parsing of a judge's verdict by the benchmarks' own patterns; None if it cannot be parsed."""

from __future__ import annotations

import math
import re
from typing import Final

from zhenlong.inference.requests import GeneratedOutput
from zhenlong.verify.judge_parsing import parse_rating as parse_rating
from zhenlong.verify.judge_parsing import parse_winner as parse_winner
from zhenlong.verify.reasoning_trace import strip_reasoning

ARENA_PATTERNS: Final = (re.compile(r"\[\[([AB<>=]+)\]\]"), re.compile(r"\[([AB<>=]+)\]"))
ARENA_LABELS: Final = {  # label -> A's score, and the weight of the game
    "A>B": (1.0, 1), "A>>B": (1.0, 3), "B<A": (1.0, 1), "B<<A": (1.0, 3), "A=B": (0.5, 1), "B=A": (0.5, 1),
    "B>A": (0.0, 1), "B>>A": (0.0, 3), "A<B": (0.0, 1), "A<<B": (0.0, 3),
}  # fmt: skip
FIRST_NAME, SECOND_NAME = "m", "M"  # the names of the two outputs in AlpacaEval's prompt


def parse_arena_label(text: str) -> str | None:
    """The last label in double brackets, else in single brackets, of the upper-cased text (arena-hard-auto).

    An unknown label in brackets, such as `[[A>=B]]`, counts as unparsed; upstream would stop with an error.
    """
    said = strip_reasoning(text).upper()
    for pattern in ARENA_PATTERNS:
        if found := pattern.findall(said):
            return found[-1] if found[-1] in ARENA_LABELS else None
    return None


def first_output_probability(output: GeneratedOutput) -> float | None:
    """P(m) / (P(m) + P(M)) at the first token: the judge's preference for the output shown first (AlpacaEval).

    A name that is not among the most likely tokens has probability 0. Without log-probabilities the response's first
    character decides.
    """
    if output.top_log_probs:
        shares = [0.0, 0.0]
        for token, log_prob in output.top_log_probs[0].items():
            if token.strip() in (FIRST_NAME, SECOND_NAME):
                shares[token.strip() == SECOND_NAME] += math.exp(log_prob)
        return shares[0] / sum(shares) if sum(shares) > 0 else None
    said = strip_reasoning(output.text).strip()[:1]
    return {FIRST_NAME: 1.0, SECOND_NAME: 0.0}.get(said)


def parse_chosen_output(text: str) -> str | None:
    """`a` or `b`, from a response expected to be `Output (a)` or `Output (b)` (LLMBar).

    If an explanation names both, the last one named in the last line counts.
    """
    said = strip_reasoning(text).strip()
    for part in (said, said.rsplit("\n", 1)[-1]):
        named = re.findall(r"\boutput\s*\(?([ab])\b\)?", part, re.IGNORECASE) or re.findall(
            r"^\W*([ab])\W*$", part, re.IGNORECASE
        )
        if len({letter.lower() for letter in named}) == 1:
            return str(named[0]).lower()
    last = re.findall(r"\boutput\s*\(?([ab])\b\)?", said.rsplit("\n", 1)[-1], re.IGNORECASE)
    return last[-1].lower() if last else None


def parse_class_label(text: str, choices: dict[str, str]) -> str | None:
    """The value of the first of the choices' names that occurs in the response, matched in lower case."""
    said = strip_reasoning(text).lower()
    places = {word: said.find(word) for word in choices if word in said}
    return choices[min(places, key=lambda word: places[word])] if places else None
