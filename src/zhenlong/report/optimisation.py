"""Did the model get better, or only better liked? The reward of training beside the one it never saw.

Pushed far enough, the proxy goes on rising while the gold reward falls (Gao et al. 2023): that is over-optimisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.evaluate.statistics import paired_difference
from zhenlong.report.examples import prompt_key
from zhenlong.report.folder import Rows
from zhenlong.report.measures import DOWN, FLAT, UP, ends_of, mean_of, name_of, significance, written, written_interval

START: Final = "sft"


@dataclass(frozen=True)
class Gain:
    """A model's gains over SFT on the same prompts, in both rewards, and what they say together."""

    model: str
    proxy: str
    proxy_interval: str
    gold: str
    gold_interval: str
    kl: str
    reading: str


def gains_of(evaluations: Mapping[str, Rows], summary: Mapping[str, Any]) -> list[Gain]:
    """The gains over SFT of the models trained after it; none without the rows of SFT or without a proxy reward."""
    start = _rewards(evaluations.get(START, []))
    models = summary.get("models")
    found = []
    for model, rows in evaluations.items():
        rewards = _rewards(rows)
        shared = [key for key in start if key in rewards]
        if model in (START, "base") or not shared:
            continue
        proxy, gold = (
            paired_difference([rewards[key][i] for key in shared], [start[key][i] for key in shared]).as_json()
            for i in (0, 1)
        )
        values = models.get(model) if isinstance(models, Mapping) else None
        kl = mean_of(values.get("kl_from_sft")) if isinstance(values, Mapping) else None
        found.append(_gain(model, proxy, gold, kl))
    return found


def proxy_against_gold(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Both rewards of every model with their intervals, as the page's script draws them; None without two models."""
    models = summary.get("models")
    found = models.items() if isinstance(models, Mapping) else ()
    points = [
        {"name": name_of(str(model)), "x": _span(values.get("proxy_reward")), "y": _span(values.get("gold_reward"))}
        for model, values in found
        if isinstance(values, Mapping)
    ]
    drawn = [point for point in points if point["x"] and point["y"]]
    return {"kind": "scatter", "points": drawn, "x": "Proxy reward", "y": "Gold reward"} if len(drawn) > 1 else None


def _gain(model: str, proxy: dict[str, Any], gold: dict[str, Any], kl: float | None) -> Gain:
    return Gain(
        name_of(model),
        written(mean_of(proxy), signed=True),
        written_interval(proxy, signed=True),
        written(mean_of(gold), signed=True),
        written_interval(gold, signed=True),
        written(kl),
        READINGS.get((significance(proxy), significance(gold)), "no clear change"),
    )


READINGS: Final = {  # what the intervals of (proxy, gold) say
    (UP, UP): "both rose",
    (UP, DOWN): "over-optimised: the proxy rose and gold fell",
    (UP, FLAT): "only the proxy rose",
    (FLAT, UP): "only gold rose",
    (FLAT, DOWN): "only gold fell",
    (DOWN, UP): "gold rose while the proxy fell",
    (DOWN, FLAT): "only the proxy fell",
    (DOWN, DOWN): "both fell",
}


def _rewards(rows: Rows) -> dict[str, tuple[float, float]]:
    """Proxy and gold reward of each prompt that has both."""
    pairs = ((prompt_key(row), mean_of(row.get("proxy")), mean_of(row.get("gold"))) for row in rows)
    return {key: (proxy, gold) for key, proxy, gold in pairs if key and proxy is not None and gold is not None}


def _span(value: Any) -> dict[str, float] | None:
    """A mean with the ends of its interval; ends that are unknown are the mean itself."""
    mean = mean_of(value)
    if mean is None:
        return None
    low, high = ends_of(value) or (mean, mean)
    return {"mean": mean, "low": low, "high": high}
