"""Exact match with the references, as in HELM; for multiple choice, accuracy of the choice."""

from __future__ import annotations

from collections.abc import Callable

from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.verify.choices import read_choice
from zhenlong.verify.matching import normalize_text


def _finds_choice(text: str, instance: Instance) -> bool:
    """Whether a text names a choice; where there are no wrong references to choose, every text is compared."""
    choices = [one.text for one in instance.references]
    return all(one.is_correct for one in instance.references) or read_choice(text, choices) is not None


@instance_metric("exact_match", Measure("exact_match"), finds=_finds_choice)
def exact_match_metric(outcome: Outcome) -> dict[str, float]:
    """1 for the right choice, or for a text equal to a correct reference after stripping white space."""
    return {"exact_match": _matches(outcome, str.strip)}


@instance_metric("quasi_exact_match", Measure("quasi_exact_match"))
def quasi_exact_match(outcome: Outcome) -> dict[str, float]:
    """The same, ignoring case, punctuation, articles and white space (HELM, basic_metrics.py)."""
    return {"quasi_exact_match": _matches(outcome, normalize_text)}


@instance_metric("prefix_exact_match", Measure("prefix_exact_match"))
def prefix_exact_match(outcome: Outcome) -> dict[str, float]:
    """1 if the text, or that of the chosen reference, begins with a correct reference (HELM, basic_metrics.py)."""
    said = outcome.answer_text.strip()
    return {
        "prefix_exact_match": float(any(said.startswith(right.strip()) for right in outcome.instance.correct_texts))
    }


def _matches(outcome: Outcome, form: Callable[[str], str]) -> float:
    if outcome.predicted is not None:
        return float(outcome.predicted in outcome.instance.correct_indices)
    said = outcome.text.strip()
    return float(bool(said) and any(form(said) == form(right) for right in outcome.instance.correct_texts))
