"""How a measured number is named and written, wherever it is shown: page, terminal or Markdown.

A measure is either a number or an object with `mean`, `ci95` and `n`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["share", "number", "count"]
MINUS: Final = "\N{MINUS SIGN}"
NONE: Final = "\N{EN DASH}"
GAIN: Final = "_gain_over_"
UP, DOWN, FLAT = "significant rise", "significant fall", "not significant"  # what the interval of a gain says
NAMES: Final = {
    "base": "Base", "sft": "SFT", "dpo": "DPO", "kto": "KTO", "ppo": "PPO", "grpo": "GRPO", "rloo": "RLOO",
    "best_of_n": "Best of n", "reward_model": "Reward model", "pretrain": "Pretraining",
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """A measure's label, what it is the mean of, and how its numbers are written."""

    label: str
    meaning: str = ""
    kind: Kind = "number"


MEASURES: Final = {
    "gold_reward": Measure("Gold reward", "the reward that training never sees"),
    "proxy_reward": Measure("Proxy reward", "the reward model's score, which training sees"),
    "reward": Measure("Reward", "mean over sampled answers"),
    "accuracy": Measure("Accuracy", "answers that are right, where there is a right one", "share"),
    "exact_match": Measure("Exact match", "answers that the verifier accepts", "share"),
    "format_following": Measure("Format followed", "answers in the form that was asked for", "share"),
    "harmful_refused": Measure("Harmful refused", "harmful requests that are refused", "share"),
    "benign_answered": Measure(
        "Look-alikes answered", "harmless requests that look harmful, yet are answered", "share"
    ),
    "preference_accuracy": Measure("Preference accuracy", "pairs whose preferred answer comes out ahead", "share"),
    "heldout_accuracy": Measure("Held-out accuracy", "pairs whose preferred answer scores higher", "share"),
    "closed_book": Measure("Closed-book accuracy", "facts chosen right among their alternatives", "share"),
    "perplexity": Measure("Perplexity", "of the assistant's tokens in held-out conversations; less is better"),
    "kl_from_sft": Measure("KL from SFT", "nats per response"),
    "kl": Measure("KL", "nats per response"),
    "mean_response_tokens": Measure("Response length", "tokens", "count"),
    "truncated": Measure("Truncated", "responses cut off at the longest length allowed", "share"),
}


def measure_named(key: str) -> Measure:
    """The measure of a key in a summary; one that is not known is named after its key."""
    if GAIN in key:
        what, over = key.split(GAIN, 1)
        inner = measure_named(what if what in MEASURES else f"{what}_reward" if f"{what}_reward" in MEASURES else what)
        return Measure(f"{inner.label}: gain over {name_of(over)}", "mean of the paired differences", inner.kind)
    return MEASURES.get(key) or Measure(key.replace("_", " ").capitalize())


def name_of(model: str) -> str:
    """How a model or stage is called in text."""
    return NAMES.get(model, model)


def mean_of(value: Any) -> float | None:
    """The number that a measure comes down to, or None where there is none."""
    value = value.get("mean") if isinstance(value, Mapping) else value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def ends_of(value: Any) -> tuple[float, float] | None:
    """The ends of a measure's interval, or None where it has none."""
    ends = value.get("ci95") if isinstance(value, Mapping) else None
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return None
    low, high = (mean_of(end) for end in ends)
    return None if low is None or high is None else (low, high)


def significance(value: Any) -> str:
    """Whether a 95 % interval lies above 0, below it, or around it; empty without an interval."""
    ends = ends_of(value)
    if ends is None:
        return ""
    return UP if ends[0] > 0 else DOWN if ends[1] < 0 else FLAT


def written(number: float | None, kind: Kind = "number", *, signed: bool = False) -> str:
    """A number for reading: shares in per cent, counts with one decimal, others with two (three when small)."""
    if number is None:
        return NONE
    scaled = 100 * number if kind == "share" else number
    digits = 1 if kind != "number" else 2 if round(abs(scaled), 3) >= 0.1 or scaled == 0 else 3
    if abs(scaled) >= 1000:
        digits = 0
    text = f"{scaled:{'+' if signed else ''},.{digits}f}"
    unit = " %" if kind == "share" and not signed else " pp" if kind == "share" else ""
    return text.replace("-", MINUS) + unit


def written_interval(value: Any, kind: Kind = "number", *, signed: bool = False) -> str:
    """The interval as "low to high", or nothing."""
    ends = ends_of(value)
    if ends is None:
        return ""
    low, high = (written(end, kind, signed=signed) for end in ends)
    return f"{low.removesuffix(' %').removesuffix(' pp')} to {high}"
