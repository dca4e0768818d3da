"""Correctness of a final answer by the scorers of GSM8K, MATH and AIME, averaged over samples (avg@n)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.verify.final_answer import (
    between_dollars,
    gsm8k_answer,
    gsm8k_flexible_extract,
    gsm8k_strict_match,
    last_boxed,
    numbers_equal,
    parse_integer,
)
from zhenlong.verify.hendrycks_math import math_equivalent
from zhenlong.verify.math_answer import read_math
from zhenlong.verify.math_verify_check import check_math

ANSWER_EXTRACTORS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "boxed": last_boxed,
    "dollars": between_dollars,
    "text": str.strip,
}


def _finds_number(text: str, instance: Instance) -> bool:
    return bool(gsm8k_flexible_extract(text))


def _finds_answer(text: str, instance: Instance) -> bool:
    return read_math(text) is not None


def _finds_box(text: str, instance: Instance, find: str = "boxed") -> bool:
    return bool((ANSWER_EXTRACTORS[find](text) or "").strip())


@instance_metric(
    "gsm8k",
    Measure("gsm8k_exact"),
    Measure("gsm8k_strict"),
    Measure("gsm8k_flexible"),
    Measure("gsm8k_numeric"),
    finds=_finds_number,
)
def gsm8k(outcome: Outcome) -> dict[str, float]:
    """Match of the number after `####`, by the official and lm-evaluation-harness's rule, and of the last number.

    `gsm8k_numeric` is the last number compared as a number: 42.00 is 42, which the text of `gsm8k_flexible` is not.
    """
    reference = first_reference_text(outcome.instance)
    gold = gsm8k_answer(reference) or gsm8k_flexible_extract(reference)
    if not gold:
        raise UserError(f"instance {outcome.instance.id}: its answer {reference[:60]!r} holds no number")
    return {
        "gsm8k_exact": fraction_correct(outcome, lambda text: gsm8k_answer(text) == gold),
        "gsm8k_strict": fraction_correct(outcome, lambda text: gsm8k_strict_match(text) == gold),
        "gsm8k_flexible": fraction_correct(outcome, lambda text: gsm8k_flexible_extract(text) == gold),
        "gsm8k_numeric": fraction_correct(outcome, lambda text: numbers_equal(gsm8k_flexible_extract(text), gold)),
    }


@instance_metric("math_equivalence", Measure("math_equivalence"), finds=_finds_box)
def math_equivalence(outcome: Outcome, *, find: str = "boxed") -> dict[str, float]:
    r"""Whether answer and gold answer are the same normalised LaTeX string (hendrycks/math).

    `find` says where the model's answer is: in the last `\\boxed{}`, between the first and last `$` (`dollars`,
    lm-evaluation-harness), or the whole `text` (HELM's MATH without chain of thought).
    """
    if find not in ANSWER_EXTRACTORS:
        raise UserError(f"metric math_equivalence: find: expected one of {', '.join(ANSWER_EXTRACTORS)}, got {find!r}")
    gold = _gold_answer(outcome.instance)
    return {
        "math_equivalence": fraction_correct(
            outcome, lambda text: math_equivalent(ANSWER_EXTRACTORS[find](text), gold)
        ),
    }


@instance_metric("math_verify", Measure("math_verify"), finds=_finds_answer)
def math_verify(outcome: Outcome) -> dict[str, float]:
    """Whether the answer is mathematically equal to the gold answer (math-verify).

    If math-verify cannot parse the gold answer ("Tuesday"), the two are compared as strings.
    """
    gold = _gold_answer(outcome.instance)

    def right(text: str) -> bool:
        try:
            return check_math(text, f"\\boxed{{{gold}}}") == 1.0
        except UserError:
            return math_equivalent(last_boxed(text), gold)

    return {"math_verify": fraction_correct(outcome, right)}


@instance_metric(
    "boxed_integer", Measure("boxed_integer"), Measure("boxed_integer_any"), Measure("boxed_integer_majority")
)
def boxed_integer(outcome: Outcome) -> dict[str, float]:
    r"""AIME: whether the last `\\boxed{}` holds the gold integer, averaged over all samples (avg@n).

    With several samples also whether any is right (pass@n), and whether the most frequent answer is (maj@n; ties go to
    the earliest).
    """
    reference = first_reference_text(outcome.instance)
    gold = parse_integer(reference)
    if gold is None:
        raise UserError(f"instance {outcome.instance.id}: its answer {reference[:60]!r} is no whole number")
    predictions = [parse_integer(last_boxed(text)) for text in answer_texts(outcome)]
    scores = {"boxed_integer": sum(one == gold for one in predictions) / len(predictions)}
    if len(predictions) > 1:
        votes = Counter(one for one in predictions if one is not None).most_common(1)
        scores["boxed_integer_any"] = float(gold in predictions)
        scores["boxed_integer_majority"] = float(bool(votes) and votes[0][0] == gold)
    return scores


def answer_texts(outcome: Outcome) -> list[str]:
    """The texts of all samples without their reasoning traces; one empty text if nothing was generated."""
    return [one.text for one in outcome.answers] or [""]


def fraction_correct(outcome: Outcome, is_correct: Callable[[str], bool]) -> float:
    """The fraction of an instance's samples that are right."""
    texts = answer_texts(outcome)
    return sum(is_correct(text) for text in texts) / len(texts)


def first_reference_text(instance: Instance) -> str:
    """The text of the first correct reference. Raises `UserError` if there is none."""
    if not instance.correct_texts:
        raise UserError(f"instance {instance.id}: no reference; expected its answer")
    return instance.correct_texts[0]


def _gold_answer(instance: Instance) -> str:
    """The answer in a worked solution's last box; a reference without a box is the answer itself."""
    reference = first_reference_text(instance)
    boxed = last_boxed(reference)
    return reference.strip() if boxed is None else boxed
