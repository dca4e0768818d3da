"""Over-optimisation: the training reward (proxy) against the true reward (gold), which training never sees.

Under too much optimisation the proxy keeps rising while the gold reward falls (Gao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.evaluate.statistics.intervals import paired_difference
from zhenlong.report.examples import prompt_key
from zhenlong.report.labels import (
    FALL,
    NOT_SIGNIFICANT,
    RISE,
    display_name,
    format_interval,
    format_measure,
    interval_ends,
    mean_value,
    significance,
)
from zhenlong.report.report_data import JsonRows

BASELINE_MODEL: Final = "sft"


@dataclass(frozen=True)
class RewardGain:
    """A model's gains over SFT on the same prompts in both rewards, with their joint interpretation."""

    model: str
    proxy: str
    proxy_interval: str
    gold: str
    gold_interval: str
    kl: str
    interpretation: str


def reward_gains(evaluations: Mapping[str, JsonRows], summary: Mapping[str, Any]) -> list[RewardGain]:
    """The gains over SFT of the models trained from it; empty without rows of SFT or a proxy reward."""
    baseline_rewards = _proxy_and_gold(evaluations.get(BASELINE_MODEL, []))
    models = summary.get("models")
    found = []
    for model, rows in evaluations.items():
        rewards = _proxy_and_gold(rows)
        shared = [key for key in baseline_rewards if key in rewards]
        if model in (BASELINE_MODEL, "base") or not shared:
            continue
        proxy, gold = (
            paired_difference(
                [rewards[key][i] for key in shared], [baseline_rewards[key][i] for key in shared]
            ).as_json()
            for i in (0, 1)
        )
        values = models.get(model) if isinstance(models, Mapping) else None
        kl = mean_value(values.get("kl_from_sft")) if isinstance(values, Mapping) else None
        found.append(_gain(model, proxy, gold, kl))
    return found


def proxy_gold_scatter(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Both rewards of every model with intervals, for the page's script; None for fewer than two models."""
    models = summary.get("models")
    found = models.items() if isinstance(models, Mapping) else ()
    points = [
        {
            "name": display_name(str(model)),
            "x": _mean_with_ends(values.get("proxy_reward")),
            "y": _mean_with_ends(values.get("gold_reward")),
        }
        for model, values in found
        if isinstance(values, Mapping)
    ]
    plotted = [point for point in points if point["x"] and point["y"]]
    return {"kind": "scatter", "points": plotted, "x": "Proxy reward", "y": "Gold reward"} if len(plotted) > 1 else None


def _gain(model: str, proxy: dict[str, Any], gold: dict[str, Any], kl: float | None) -> RewardGain:
    return RewardGain(
        display_name(model),
        format_measure(mean_value(proxy), signed=True),
        format_interval(proxy, signed=True),
        format_measure(mean_value(gold), signed=True),
        format_interval(gold, signed=True),
        format_measure(kl),
        INTERPRETATIONS.get((significance(proxy), significance(gold)), "no clear change"),
    )


INTERPRETATIONS: Final = {  # significance of (proxy, gold) -> text
    (RISE, RISE): "both rose",
    (RISE, FALL): "over-optimised: the proxy rose and gold fell",
    (RISE, NOT_SIGNIFICANT): "only the proxy rose",
    (NOT_SIGNIFICANT, RISE): "only gold rose",
    (NOT_SIGNIFICANT, FALL): "only gold fell",
    (FALL, RISE): "gold rose while the proxy fell",
    (FALL, NOT_SIGNIFICANT): "only the proxy fell",
    (FALL, FALL): "both fell",
}


def _proxy_and_gold(rows: JsonRows) -> dict[str, tuple[float, float]]:
    """Proxy and gold reward of each prompt that has both."""
    pairs = ((prompt_key(row), mean_value(row.get("proxy")), mean_value(row.get("gold"))) for row in rows)
    return {key: (proxy, gold) for key, proxy, gold in pairs if key and proxy is not None and gold is not None}


def _mean_with_ends(value: Any) -> dict[str, float] | None:
    """A mean with the ends of its interval; unknown ends are the mean itself."""
    mean = mean_value(value)
    if mean is None:
        return None
    low, high = interval_ends(value) or (mean, mean)
    return {"mean": mean, "low": low, "high": high}
