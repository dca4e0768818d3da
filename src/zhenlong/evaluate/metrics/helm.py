"""Metrics that only HELM's scenarios use: last word, last number, any of k samples, and time by tokens.

Rules: stanford-crfm/helm:src/helm/benchmark/metrics/evaluate_reference_metrics.py and efficiency_metrics.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from zhenlong.evaluate.metrics.efficiency import num_batches
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, instance_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.bootstrap import UNKNOWN
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.verify.matching import normalize_text

NUMBER: Final = re.compile(r"-?[\d,]+(?:.\d+)?")
COEFFICIENTS: Final = ("overhead_seconds", "seconds_per_prompt_token", "seconds_per_generated_token")


@instance_metric("quasi_prefix_exact_match", Measure("quasi_prefix_exact_match"))
def quasi_prefix_exact_match(outcome: Outcome) -> dict[str, float]:
    """1 if the text begins with a correct reference, ignoring case, punctuation, articles and white space."""
    said = normalize_text(outcome.answer_text)
    right = any(said.startswith(normalize_text(one)) for one in outcome.instance.correct_texts)
    return {"quasi_prefix_exact_match": float(bool(said) and right)}


@instance_metric(
    "letter_match",
    Measure("exact_match"),
    Measure("quasi_exact_match"),
    Measure("prefix_exact_match"),
    Measure("quasi_prefix_exact_match"),
)
def letter_match(outcome: Outcome) -> dict[str, float]:
    """HELM's measures of an answer by letter: the response is the letter alone (`B`), and anything else is wrong.

    The letter stands for the text of its choice, and texts are compared: of two choices with the same text both are
    right, and a choice that begins with the right one has `prefix_exact_match` 1.
    """
    references, said = outcome.instance.references, ""
    if outcome.outputs:
        letters = [chr(ord("A") + place) for place in range(len(references))]
        letter = outcome.text.strip()
        said = references[letters.index(letter)].text if letter in letters else ""
    elif outcome.predicted is not None:  # the letters were scored
        said = outcome.answer_text
    right = [one.text for one in references if one.is_correct]
    same, similar = ([form(one) for one in right] for form in (str.strip, normalize_text))
    return {
        "exact_match": float(bool(said) and said.strip() in same),
        "quasi_exact_match": float(bool(said) and normalize_text(said) in similar),
        "prefix_exact_match": float(bool(said) and said.strip().startswith(tuple(same))),
        "quasi_prefix_exact_match": float(bool(said) and normalize_text(said).startswith(tuple(similar))),
    }


@instance_metric("exact_match_indicator", Measure("exact_match_indicator"))
def exact_match_indicator(outcome: Outcome, *, indicator: str = " ") -> dict[str, float]:
    """1 if the text after the last `indicator` (by default the last word) equals that of a correct reference.

    HELM's metric for GSM8K and Dyck. For a Dyck word it compares the last bracket only: read it with `exact_match`.
    """
    said = _after_last(indicator, outcome.answer_text)
    right = any(said == _after_last(indicator, one) for one in outcome.instance.correct_texts)
    return {"exact_match_indicator": float(bool(said) and right)}


@instance_metric("final_number_exact_match", Measure("final_number_exact_match"))
def final_number_exact_match(outcome: Outcome) -> dict[str, float]:
    """1 if the last number of the text is the last number of a correct reference, ignoring commas."""
    said = _final_number(outcome.answer_text)
    right = any(said == _final_number(one) for one in outcome.instance.correct_texts)
    return {"final_number_exact_match": float(bool(said) and right)}


@instance_metric("any_match", Measure("exact_match@*"), Measure("quasi_exact_match@*"))
def any_match(outcome: Outcome, *, k: int = 5) -> dict[str, float]:
    """1 if one of the first `k` samples is a correct reference: `exact_match@k`, `quasi_exact_match@k`."""
    return {
        f"exact_match@{k}": _any_answer_matches(outcome, k, str.strip),
        f"quasi_exact_match@{k}": _any_answer_matches(outcome, k, normalize_text),
    }


@corpus_metric("time_by_tokens", *(Measure(name, "efficiency", False) for name in COEFFICIENTS))
def time_by_tokens(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """seconds = overhead + a * prompt tokens + b * generated tokens, by least squares over the requests measured.

    HELM looks a and b up in tables per deployment; here they are fitted to this machine's timings. Empty if fewer than
    three requests were timed, or the lengths do not vary. Without intervals, as all times of one run
    (`efficiency_results`).
    """
    costs = [one.outcome.cost for one in scored if one.outcome.cost is not None and one.outcome.cost.seconds > 0]
    lengths = np.array([[1.0, cost.prompt_tokens, cost.generated_tokens] for cost in costs]).reshape(len(costs), 3)
    seconds = np.array([cost.seconds for cost in costs])
    if len(costs) < 3 or np.linalg.matrix_rank(lengths) < 3:
        return {}
    fitted = np.linalg.lstsq(lengths, seconds, rcond=None)[0]
    batches = num_batches(costs)
    return {name: Interval(float(value), UNKNOWN, batches) for name, value in zip(COEFFICIENTS, fitted, strict=True)}


def _any_answer_matches(outcome: Outcome, k: int, form: Callable[[str], str]) -> float:
    right = {form(one) for one in outcome.instance.correct_texts}
    return float(any(output.text.strip() and form(output.text) in right for output in outcome.answers[:k]))


def _after_last(indicator: str, text: str) -> str:
    return text.strip().split(indicator)[-1].strip()


def _final_number(text: str) -> str:
    found = NUMBER.findall(text)
    return found[-1].replace(",", "") if found else ""
