"""Verdicts in the forms of Arena-Hard and AlpacaEval."""

from __future__ import annotations

import math
import re
from typing import Final

from zhenlong.inference.requests import GeneratedOutput
from zhenlong.verify.answer_text import strip_reasoning

ARENA_LABELS: Final = {  # label -> A's score, and the weight of the game
    "A>B": (1.0, 1), "A>>B": (1.0, 3), "B<A": (1.0, 1), "B<<A": (1.0, 3), "A=B": (0.5, 1), "B=A": (0.5, 1),
    "B>A": (0.0, 1), "B>>A": (0.0, 3), "A<B": (0.0, 1), "A<<B": (0.0, 3),
}  # fmt: skip
FIRST_NAME, SECOND_NAME = "m", "M"  # the names of the two outputs in AlpacaEval's prompt
OUTPUT_NAME: Final = re.compile(r"\W*(?:(?:[Mm]odel|[Oo]utput|[Aa]nswer|[Bb]est)\W*(?:is\W*)?)*([mM])(?!\w)")


def first_output_probability(output: GeneratedOutput) -> float | None:
    """P(m) / (P(m) + P(M)) at the first token: the judge's preference for the output shown first (AlpacaEval).

    A name that is not among the most likely tokens has probability 0. Without log-probabilities, and after a reasoning
    trace, the name that the reply begins with decides.
    """
    reply = strip_reasoning(output.text)
    if output.top_log_probs and reply == output.text:
        shares = [0.0, 0.0]
        for token, log_prob in output.top_log_probs[0].items():
            if token.strip() in (FIRST_NAME, SECOND_NAME):
                shares[token.strip() == SECOND_NAME] += math.exp(log_prob)
        if sum(shares) > 0:
            return shares[0] / sum(shares)
    named = OUTPUT_NAME.match(reply)
    return None if named is None else float(named[1] == FIRST_NAME)
