"""Training curves of a run: one chart per metric, with a moving mean if it is noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zhenlong.evaluate.results.number_format import format_short
from zhenlong.report.labels import MINUS_SIGN, mean_value
from zhenlong.report.report_data import JsonRows, RunData

MAX_POINTS: Final = 1500  # points per curve; longer runs show means over buckets of steps
MIN_POINTS_TO_SMOOTH: Final = 40  # shorter curves get no moving mean
NOISE_THRESHOLD: Final = 0.01  # a curve is noisy above this median second difference, as a fraction of its range
CURVE_TITLES: Final = {
    "loss": "Loss",
    "heldout_loss": "Held-out loss",
    "heldout_accuracy": "Held-out accuracy",
    "reward": "Reward",
    "gold": "Gold reward",
    "kl": "KL",
    "response_tokens": "Response length (tokens)",
    "accuracy": "Accuracy",
    "margin": "Margin",
    "truncated_fraction": "Truncated (fraction)",
    "clip_fraction": "Clip fraction",
    "ratio": "Probability ratio",
    "entropy": "Entropy (nats)",
    "value_loss": "Value loss",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "tokens_per_second": "Tokens per second",
}
NOT_PLOTTED: Final = frozenset({"step", "tokens", "seconds"})


@dataclass(frozen=True)
class Curve:
    """One metric over the steps. `smooth` is its moving mean or empty; `first_to_last` its first and last value."""

    key: str
    title: str
    steps: list[float]
    values: list[float]
    smooth: list[float]
    first_to_last: str
    note: str

    def as_json(self) -> dict[str, Any]:
        """The data for the page's script."""
        return {"kind": "curve", "x": self.steps, "y": self.values, "smooth": self.smooth}


def training_curves(run: RunData) -> list[Curve]:
    """A curve for each metric with at least two finite values, known metrics first."""
    keys = dict.fromkeys(key for row in run.metrics for key in row if key not in NOT_PLOTTED)
    ordered = [key for key in CURVE_TITLES if key in keys] + sorted(key for key in keys if key not in CURVE_TITLES)
    found = (_curve(key, run.metrics) for key in ordered)
    return [curve for curve in found if curve is not None]


def _curve(key: str, metrics: JsonRows) -> Curve | None:
    points = [(mean_value(row.get("step", i)), mean_value(row.get(key))) for i, row in enumerate(metrics, 1)]
    finite = [(step, value) for step, value in points if step is not None and value is not None]
    if len(finite) < 2:
        return None
    steps, values = np.asarray(finite, dtype=np.float64).T
    bucket_size = -(-len(values) // MAX_POINTS)
    steps, values = _bucket_means(steps, bucket_size), _bucket_means(values, bucket_size)
    noisy = len(values) >= MIN_POINTS_TO_SMOOTH and float(
        np.median(np.abs(np.diff(values, 2)))
    ) > NOISE_THRESHOLD * float(np.ptp(values))
    smooth = moving_mean(values, len(values) // 20 * 2 + 1) if noisy else values
    note = f"each point is the mean of {bucket_size} steps" if bucket_size > 1 else ""
    title = CURVE_TITLES.get(key, key.replace("_", " ").capitalize())
    first_to_last = f"{format_significant(float(smooth[0]))} to {format_significant(float(smooth[-1]))}"
    return Curve(
        key,
        title,
        steps.tolist(),
        _round_for_plot(values),
        _round_for_plot(smooth) if noisy else [],
        first_to_last,
        note,
    )


def moving_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The centred mean over `window` points (an odd number), over fewer near the ends."""
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same")


def format_significant(value: float) -> str:
    """A number with three significant digits."""
    text = format_short(value) if abs(value) >= 1e-4 or value == 0 else f"{value:.3g}"
    return text.replace("e-0", "e-").replace("-", MINUS_SIGN)


def _round_for_plot(values: NDArray[np.float64]) -> list[float]:
    """Values rounded to five significant digits, enough for a plot."""
    return [float(f"{value:.5g}") for value in values]


def _bucket_means(values: NDArray[np.float64], bucket_size: int) -> NDArray[np.float64]:
    """Means over buckets of `bucket_size` values; the last bucket may be smaller."""
    if bucket_size == 1:
        return values
    starts: Sequence[int] = range(0, len(values), bucket_size)
    return np.asarray([values[start : start + bucket_size].mean() for start in starts])
