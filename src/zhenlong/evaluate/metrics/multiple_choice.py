"""Accuracy of multiple choice: by the letter extracted from a chain of thought (MMLU-Pro, GPQA), or by probability
(TruthfulQA's MC1 and MC2, Lin et al. 2022).
"""

from __future__ import annotations

import math

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.maths import answer_texts
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.verify.choices import read_choice
from zhenlong.verify.final_answer import LETTER_PATTERN_CHAINS, extract_choice_letter, random_choice_letter


def _finds_choice(text: str, instance: Instance) -> bool:
    return read_choice(text, [one.text for one in instance.references]) is not None


@instance_metric("choice_accuracy", Measure("choice_accuracy"), finds=_finds_choice)
def choice_accuracy(outcome: Outcome) -> dict[str, float]:
    """The readable measure of multiple choice: whether the answer names the right option, by letter or text.

    It stands beside official measures that count every other form as wrong (`letter_match`) or guess
    (`letter_choice`). How an answer is read: verify/choices.py. Scored choices count by the most likely one.
    """
    right, options = outcome.instance.correct_indices, [one.text for one in outcome.instance.references]
    if not outcome.answers:
        return {} if outcome.predicted is None else {"choice_accuracy": float(outcome.predicted in right)}
    chosen = [read_choice(one.text, options) for one in outcome.answers]
    return {"choice_accuracy": sum(one in right for one in chosen) / len(chosen)}


def _finds_letter(text: str, instance: Instance, chain: str = "mmlu_pro") -> bool:
    return extract_choice_letter(text, chain) is not None


@instance_metric(
    "letter_choice", Measure("letter_choice"), Measure("letter_found", higher_is_better=None), finds=_finds_letter
)
def letter_choice(outcome: Outcome, *, chain: str = "mmlu_pro", guess: bool = False) -> dict[str, float]:
    """`letter_choice`: whether the extracted letter is the right choice. `letter_found`: whether one was extracted.

    With `guess` a response without a letter gets a random one, seeded by the question's id (MMLU-Pro uses the same one
    for all questions with as many choices); without, it counts as wrong.
    """
    if chain not in LETTER_PATTERN_CHAINS:
        raise UserError(
            f"metric letter_choice: chain: expected one of {', '.join(LETTER_PATTERN_CHAINS)}, got {chain!r}"
        )
    instance = outcome.instance
    right = {chr(ord("A") + place) for place in instance.correct_indices}
    found = [extract_choice_letter(text, chain) for text in answer_texts(outcome)]
    guesses = {random_choice_letter(instance.id, len(instance.references))} if guess else set()
    marks = [bool(right & ({letter} if letter else guesses)) for letter in found]
    return {
        "letter_choice": sum(marks) / len(marks),
        "letter_found": sum(letter is not None for letter in found) / len(found),
    }


@instance_metric("truthfulqa_mc1", Measure("mc1"))
def truthfulqa_mc1(outcome: Outcome) -> dict[str, float]:
    """1 if the most likely answer is the true one; ties go to the first answer.

    Rules of both: EleutherAI/lm-evaluation-harness:lm_eval/tasks/truthfulqa/.
    """
    if outcome.choices is None:
        return {}
    log_probs = outcome.choices.log_probs
    return {"mc1": float(log_probs.index(max(log_probs)) in outcome.instance.correct_indices)}


@instance_metric("truthfulqa_mc2", Measure("mc2"))
def truthfulqa_mc2(outcome: Outcome) -> dict[str, float]:
    """The normalised probability mass on the true answers."""
    if outcome.choices is None:
        return {}
    log_probs = outcome.choices.log_probs
    shares = [math.exp(one - max(log_probs)) for one in log_probs]
    return {"mc2": sum(shares[place] for place in outcome.instance.correct_indices) / sum(shares)}
