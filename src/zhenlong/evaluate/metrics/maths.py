"""Is the final answer right? The scorers of GSM8K, MATH and AIME, over one answer or the mean over several (avg@n)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from zhenlong.errors import UserError
from zhenlong.evaluate.instance import Instance
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.outcome import Outcome
from zhenlong.verify.final_answer import (
    between_dollars,
    gsm8k_answer,
    gsm8k_flexible,
    gsm8k_strict,
    integer,
    last_boxed,
)
from zhenlong.verify.math_string import math_equivalent
from zhenlong.verify.mathematics import check_math
from zhenlong.verify.thinking import without_thinking

FINDS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "boxed": last_boxed,
    "dollars": between_dollars,
    "text": str.strip,
}


@instance_metric("gsm8k", Measure("gsm8k_exact"), Measure("gsm8k_strict"), Measure("gsm8k_flexible"))
def gsm8k(outcome: Outcome) -> dict[str, float]:
    """The number after `####` (official), the same as lm-evaluation-harness reads it, and the last number of all."""
    reference = gold_text(outcome.instance)
    gold = gsm8k_answer(reference) or gsm8k_flexible(reference)
    if not gold:
        raise UserError(f"instance {outcome.instance.id}: its answer {reference[:60]!r} holds no number")
    return {
        "gsm8k_exact": mean_over_answers(outcome, lambda text: gsm8k_answer(text) == gold),
        "gsm8k_strict": mean_over_answers(outcome, lambda text: gsm8k_strict(text) == gold),
        "gsm8k_flexible": mean_over_answers(outcome, lambda text: gsm8k_flexible(text) == gold),
    }


@instance_metric("math_equivalence", Measure("math_equivalence"))
def math_equivalence(outcome: Outcome, *, find: str = "boxed") -> dict[str, float]:
    r"""Whether the answer and the gold answer are the same LaTeX, spelt alike (hendrycks/math).

    `find` says where the model's answer stands: the last `\\boxed{}`, between the first and last `$` (`dollars`,
    lm-evaluation-harness), or the whole `text` (HELM's MATH without chain of thought).
    """
    if find not in FINDS:
        raise UserError(f"metric math_equivalence: find: expected one of {', '.join(FINDS)}, got {find!r}")
    gold = _gold_answer(outcome.instance)
    return {
        "math_equivalence": mean_over_answers(outcome, lambda text: math_equivalent(FINDS[find](text), gold)),
    }


@instance_metric("math_verify", Measure("math_verify"))
def math_verify(outcome: Outcome) -> dict[str, float]:
    """Whether the answer equals the gold answer as mathematics (math-verify).

    Where math-verify can read no mathematics in the gold answer ("Tuesday"), the two are compared as strings.
    """
    gold = _gold_answer(outcome.instance)

    def right(text: str) -> bool:
        try:
            return check_math(text, f"\\boxed{{{gold}}}") == 1.0
        except UserError:
            return math_equivalent(last_boxed(text), gold)

    return {"math_verify": mean_over_answers(outcome, right)}


@instance_metric(
    "boxed_integer", Measure("boxed_integer"), Measure("boxed_integer_any"), Measure("boxed_integer_majority")
)
def boxed_integer(outcome: Outcome) -> dict[str, float]:
    r"""AIME: whether the last `\\boxed{}` holds the gold whole number, averaged over all answers (avg@n).

    With several answers also whether any is right (pass@n), and whether the most frequent one is (maj@n; of equally
    frequent ones the one said first).
    """
    reference = gold_text(outcome.instance)
    gold = integer(reference)
    if gold is None:
        raise UserError(f"instance {outcome.instance.id}: its answer {reference[:60]!r} is no whole number")
    said = [integer(last_boxed(text)) for text in answers(outcome)]
    scores = {"boxed_integer": sum(one == gold for one in said) / len(said)}
    if len(said) > 1:
        votes = Counter(one for one in said if one is not None).most_common(1)
        scores["boxed_integer_any"] = float(gold in said)
        scores["boxed_integer_majority"] = float(bool(votes) and votes[0][0] == gold)
    return scores


def answers(outcome: Outcome) -> list[str]:
    """The texts of all answers without their reasoning traces; one empty text where nothing was said."""
    return [without_thinking(one.text) for one in outcome.outputs] or [""]


def mean_over_answers(outcome: Outcome, right: Callable[[str], bool]) -> float:
    """The share of an instance's answers that are right."""
    texts = answers(outcome)
    return sum(right(text) for text in texts) / len(texts)


def gold_text(instance: Instance) -> str:
    """The text of the first correct reference. Raises `UserError` where there is none."""
    if not instance.correct:
        raise UserError(f"instance {instance.id}: no reference; expected its answer")
    return instance.correct[0]


def _gold_answer(instance: Instance) -> str:
    """The answer in a worked solution's last box; a reference without a box is the answer itself."""
    reference = gold_text(instance)
    boxed = last_boxed(reference)
    return reference.strip() if boxed is None else boxed
