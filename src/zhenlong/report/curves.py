"""A run's metrics as small charts: one for each quantity, with a moving mean where it is noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zhenlong.report.labels import MINUS_SIGN, mean_value
from zhenlong.report.report_data import JsonRows, RunData

MAX_POINTS: Final = 1500  # of a curve on the page; longer runs show means of neighbouring steps
MIN_POINTS_TO_SMOOTH: Final = 40  # points from which a noisy curve gets a moving mean
NOISE_THRESHOLD: Final = 0.01  # median second difference, as a share of the range, that makes a curve noisy
CURVE_TITLES: Final = {
    "loss": "Loss",
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
    """One quantity over the steps. `smooth` is its moving mean, or empty; `span` says where it began and ended."""

    key: str
    title: str
    steps: list[float]
    values: list[float]
    smooth: list[float]
    first_to_last: str
    note: str

    def as_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"kind": "curve", "x": self.steps, "y": self.values, "smooth": self.smooth}


def training_curves(run: RunData) -> list[Curve]:
    """A curve for each quantity that has at least two finite numbers, known ones first."""
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
    """The mean over `window` points around each (an odd number), over fewer near the ends."""
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same")


def format_significant(value: float) -> str:
    """A number in three significant digits."""
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("e-0", "e-").replace("-", MINUS_SIGN)


def _round_for_plot(values: NDArray[np.float64]) -> list[float]:
    """Five significant digits: enough for a picture."""
    return [float(f"{value:.5g}") for value in values]


def _bucket_means(values: NDArray[np.float64], bucket_size: int) -> NDArray[np.float64]:
    """Means of `each` neighbours; the last bucket may hold fewer."""
    if bucket_size == 1:
        return values
    starts: Sequence[int] = range(0, len(values), bucket_size)
    return np.asarray([values[start : start + bucket_size].mean() for start in starts])
