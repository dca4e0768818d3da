"""Labels and number formats of measures, for page, terminal and Markdown.

The value of a measure is a number or an object with `mean`, `ci95` and `n`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from zhenlong.inference.endpoint_address import ENDPOINT_PREFIX
from zhenlong.registry import stages

NumberKind = Literal["fraction", "number", "count"]
MINUS_SIGN: Final = "\N{MINUS SIGN}"
MISSING_TEXT: Final = "\N{EN DASH}"
GAIN_INFIX: Final = "_gain_over_"
RISE, FALL, NOT_SIGNIFICANT = (
    "significant increase",
    "significant decrease",
    "not significant",
)  # significance of a gain by its interval
DISPLAY_NAMES: Final = {"base": "Base", "rloo": "RLOO"} | {name: one.label for name, one in stages().items()}


@dataclass(frozen=True)
class MeasureLabel:
    """A measure's label, its description, and the format of its numbers."""

    label: str
    description: str = ""
    kind: NumberKind = "number"


MEASURE_LABELS: Final = {
    "gold_reward": MeasureLabel("Gold reward", "the reward that training never sees"),
    "proxy_reward": MeasureLabel("Proxy reward", "the reward model's score, which training sees"),
    "reward": MeasureLabel("Reward", "mean over sampled responses"),
    "accuracy": MeasureLabel("Accuracy", "correct responses, among tasks with a reference answer", "fraction"),
    "exact_match": MeasureLabel("Exact match", "responses that the verifier accepts", "fraction"),
    "format_following": MeasureLabel("Format followed", "responses in the requested format", "fraction"),
    "harmful_refused": MeasureLabel("Harmful refused", "harmful requests that are refused", "fraction"),
    "benign_compliance": MeasureLabel(
        "Benign compliance", "benign lookalikes that are answered (1 - over-refusal)", "fraction"
    ),
    "preference_accuracy": MeasureLabel("Preference accuracy", "pairs whose chosen response is preferred", "fraction"),
    "heldout_accuracy": MeasureLabel("Held-out accuracy", "pairs whose chosen response scores higher", "fraction"),
    "closed_book": MeasureLabel(
        "Closed-book accuracy", "multiple-choice questions about facts answered correctly", "fraction"
    ),
    "perplexity": MeasureLabel("Perplexity", "of the assistant's tokens in held-out conversations; lower is better"),
    "kl_from_sft": MeasureLabel("KL from SFT", "nats per response"),
    "kl": MeasureLabel("KL", "nats per response"),
    "mean_response_tokens": MeasureLabel("Response length", "tokens", "count"),
    "truncated": MeasureLabel("Truncated", "responses truncated at max_tokens", "fraction"),
}


def measure_label(key: str) -> MeasureLabel:
    """The label of a key in a summary; unknown keys are labelled by their name."""
    if GAIN_INFIX in key:
        gained_measure, baseline_model = key.split(GAIN_INFIX, 1)
        gained_label = measure_label(
            gained_measure
            if gained_measure in MEASURE_LABELS
            else f"{gained_measure}_reward"
            if f"{gained_measure}_reward" in MEASURE_LABELS
            else gained_measure
        )
        return MeasureLabel(
            f"{gained_label.label}: gain over {display_name(baseline_model)}",
            "mean of the paired differences",
            gained_label.kind,
        )
    return MEASURE_LABELS.get(key) or MeasureLabel(key.replace("_", " ").capitalize())


def display_name(model: str) -> str:
    """The display name of a model or stage."""
    return DISPLAY_NAMES.get(model, model)


def distinct_model_names(models: Sequence[str]) -> dict[str, str]:
    """The display name of each model: as few of the last parts of its path, two at least, as tell it from the others.

    A model of an endpoint, `openai:name@url`, is its name, with the server's address where another has the same name.
    """
    whole = {model: _model_parts(model) for model in models}
    longest = max(map(len, whole.values()), default=0)
    names: dict[str, str] = {}
    for model, parts in whole.items():
        others = [one for other, one in whole.items() if other != model]
        fewest = 1 if model.startswith(ENDPOINT_PREFIX) else 2
        kept = next((n for n in range(fewest, longest) if all(one[-n:] != parts[-n:] for one in others)), longest)
        names[model] = _join_parts(model, parts, kept)
    return names


def _model_parts(model: str) -> list[str]:
    """The parts of a model's name, the most telling one last."""
    if model.startswith(ENDPOINT_PREFIX):
        name, _, url = model.removeprefix(ENDPOINT_PREFIX).partition("@")
        return [url.removesuffix("/"), name]
    return [part for part in model.split("/") if part]


def _join_parts(model: str, parts: Sequence[str], count: int) -> str:
    if model.startswith(ENDPOINT_PREFIX):
        return parts[-1] if count == 1 else f"{parts[-1]} ({parts[0].partition('://')[2] or parts[0]})"
    return display_name(model if len(parts) <= count else "…/" + "/".join(parts[-count:]))


def mean_value(value: Any) -> float | None:
    """The mean of a measure, or None if there is none."""
    value = value.get("mean") if isinstance(value, Mapping) else value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def interval_ends(value: Any) -> tuple[float, float] | None:
    """The ends of a measure's interval, or None if it has none."""
    ends = value.get("ci95") if isinstance(value, Mapping) else None
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return None
    low, high = (mean_value(end) for end in ends)
    return None if low is None or high is None else (low, high)


def significance(value: Any) -> str:
    """Whether a 95 % interval lies above 0, below 0, or contains it; empty without an interval."""
    ends = interval_ends(value)
    if ends is None:
        return ""
    return RISE if ends[0] > 0 else FALL if ends[1] < 0 else NOT_SIGNIFICANT


def format_measure(number: float | None, kind: NumberKind = "number", *, signed: bool = False) -> str:
    """A formatted number: fractions in per cent, counts with one decimal, others with two (three if small)."""
    if number is None:
        return MISSING_TEXT
    scaled = 100 * number if kind == "fraction" else number
    digits = 1 if kind != "number" else 2 if round(abs(scaled), 3) >= 0.1 or scaled == 0 else 3
    if abs(scaled) >= 1000:
        digits = 0
    text = f"{scaled:{'+' if signed else ''},.{digits}f}"
    unit = " %" if kind == "fraction" and not signed else " pp" if kind == "fraction" else ""
    return text.replace("-", MINUS_SIGN) + unit


def format_interval(value: Any, kind: NumberKind = "number", *, signed: bool = False) -> str:
    """The interval as "low to high", or an empty text."""
    ends = interval_ends(value)
    if ends is None:
        return ""
    low, high = (format_measure(end, kind, signed=signed) for end in ends)
    return f"{low.removesuffix(' %').removesuffix(' pp')} to {high}"
