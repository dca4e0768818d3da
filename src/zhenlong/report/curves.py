"""A run's metrics as small charts: one for each quantity, with a moving mean where it is noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zhenlong.report.folder import Rows, RunStory
from zhenlong.report.measures import MINUS, mean_of

POINTS: Final = 1500  # of a curve on the page; longer runs show means of neighbouring steps
SMOOTHED: Final = 40  # points from which a noisy curve gets a moving mean
NOISE: Final = 0.01  # median second difference, as a share of the range, that makes a curve noisy
CURVES: Final = {
    "loss": "Loss",
    "reward": "Reward",
    "gold": "Gold reward",
    "kl": "KL",
    "response_tokens": "Response length (tokens)",
    "accuracy": "Accuracy",
    "margin": "Margin",
    "truncated": "Truncated (share)",
    "clip_fraction": "Clip fraction",
    "ratio": "Probability ratio",
    "entropy": "Entropy (nats)",
    "value_loss": "Value loss",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "tokens_per_second": "Tokens per second",
}
NOT_DRAWN: Final = frozenset({"step", "tokens", "seconds"})


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps. `smooth` is its moving mean, or empty; `span` says where it began and ended."""

    key: str
    title: str
    steps: list[float]
    values: list[float]
    smooth: list[float]
    span: str
    note: str

    def as_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"kind": "curve", "x": self.steps, "y": self.values, "smooth": self.smooth}


def curves_of(run: RunStory) -> list[Curve]:
    """A curve for each quantity that has at least two finite numbers, known ones first."""
    keys = dict.fromkeys(key for row in run.metrics for key in row if key not in NOT_DRAWN)
    ordered = [key for key in CURVES if key in keys] + sorted(key for key in keys if key not in CURVES)
    found = (_curve(key, run.metrics) for key in ordered)
    return [curve for curve in found if curve is not None]


def _curve(key: str, metrics: Rows) -> Curve | None:
    points = [(mean_of(row.get("step", i)), mean_of(row.get(key))) for i, row in enumerate(metrics, 1)]
    finite = [(step, value) for step, value in points if step is not None and value is not None]
    if len(finite) < 2:
        return None
    steps, values = np.asarray(finite, dtype=np.float64).T
    each = -(-len(values) // POINTS)
    steps, values = _bucketed(steps, each), _bucketed(values, each)
    noisy = len(values) >= SMOOTHED and float(np.median(np.abs(np.diff(values, 2)))) > NOISE * float(np.ptp(values))
    smooth = moving_mean(values, len(values) // 20 * 2 + 1) if noisy else values
    note = f"each point is the mean of {each} steps" if each > 1 else ""
    title = CURVES.get(key, key.replace("_", " ").capitalize())
    span = f"{brief(float(smooth[0]))} to {brief(float(smooth[-1]))}"
    return Curve(key, title, steps.tolist(), _rounded(values), _rounded(smooth) if noisy else [], span, note)


def moving_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean over `window` points around each (an odd number), over fewer near the ends."""
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same")


def brief(value: float) -> str:
    """A number in three significant digits."""
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("e-0", "e-").replace("-", MINUS)


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """Five significant digits: enough for a picture."""
    return [float(f"{value:.5g}") for value in values]


def _bucketed(values: NDArray[np.float64], each: int) -> NDArray[np.float64]:
    """Means of `each` neighbours; the last bucket may hold fewer."""
    if each == 1:
        return values
    starts: Sequence[int] = range(0, len(values), each)
    return np.asarray([values[start : start + each].mean() for start in starts])
