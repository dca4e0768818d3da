"""Over-optimisation: the training reward (proxy) against the true reward (gold), which training never sees.

Under too much optimisation the proxy keeps rising while the gold reward falls (Gao et al. 2023).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zhenlong.evaluate.statistics.bootstrap import MIN_OBSERVATIONS
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
from zhenlong.report.report_data import JsonRows, RunData

BASELINE_MODEL: Final = "sft"
OVER_OPTIMISED: Final = "over-optimised: the proxy rose and gold fell"
PREFERENCE_STAGES: Final = ("dpo", "kto")
REWARD_PATH: Final = re.compile(r"model:[^ +,)]+")  # a reward model in a reward's expression


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
    trained_on: str = ""  # the reward it was trained on, in words


@dataclass(frozen=True)
class TrainingReward:
    """What a model was trained on, in words, and whether that is the proxy (a reward model) or the verifier."""

    text: str
    uses_proxy: bool
    uses_verifier: bool


def training_rewards(runs: Sequence[RunData]) -> dict[str, TrainingReward]:
    """The reward of each run that has one, by the run's name; DPO and its like are trained on preferences."""
    found = {}
    for run in runs:
        reward = run.config.get("reward")
        if isinstance(reward, str) and reward:
            words = REWARD_PATH.sub("reward model", reward)
            found[run.name] = TrainingReward(words, words != reward, "verifier" in words)
        elif run.stage in PREFERENCE_STAGES:
            found[run.name] = TrainingReward("preferences, no reward", False, False)
    return found


def verifier_note(evaluations: Mapping[str, JsonRows], rewards: Mapping[str, TrainingReward]) -> str:
    """That the verifier shares its check with gold, with their correlation; empty if no model was trained on it."""
    names = [display_name(name) for name, one in rewards.items() if one.uses_verifier and name in evaluations]
    pairs = [
        (correct, gold)
        for rows in evaluations.values()
        for row in rows
        if (correct := mean_value(row.get("correct"))) is not None and (gold := mean_value(row.get("gold"))) is not None
    ]
    if not names or len(pairs) < MIN_OBSERVATIONS or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return ""
    correlation = float(np.corrcoef(np.array(pairs).T)[0, 1])
    return (
        f"The verifier shares its check with gold: over the {len(pairs):,} answers that it can check, they correlate "
        f"with r = {correlation:.2f}. A gain in gold of {' and '.join(names)}, trained on the verifier, is therefore "
        "no independent evidence."
    )


def reward_gains(
    evaluations: Mapping[str, JsonRows],
    summary: Mapping[str, Any],
    trained_on: Mapping[str, TrainingReward] | None = None,
) -> list[RewardGain]:
    """The gains over SFT of the models trained from it; empty without rows of SFT or a proxy reward.

    Only a model that was trained on the proxy can be over-optimised for it.
    """
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
        found.append(_gain(model, proxy, gold, kl, (trained_on or {}).get(model)))
    return found


def proxy_gold_scatter(summary: Mapping[str, Any], rewards: Mapping[str, TrainingReward]) -> dict[str, Any] | None:
    """Both rewards with intervals, for the page's script, of the models trained on the proxy and of those before.

    None if no model was trained on the proxy.
    """
    models = summary.get("models")
    found = models.items() if isinstance(models, Mapping) else ()
    points = [
        {
            "name": display_name(str(model)),
            "x": _mean_with_ends(values.get("proxy_reward")),
            "y": _mean_with_ends(values.get("gold_reward")),
        }
        for model, values in found
        if isinstance(values, Mapping) and (model in ("base", BASELINE_MODEL) or _is_on_proxy(rewards.get(str(model))))
    ]
    if not any(_is_on_proxy(rewards.get(str(model))) for model, _ in found):
        return None
    plotted = [point for point in points if point["x"] and point["y"]]
    return {"kind": "scatter", "points": plotted, "x": "Proxy reward", "y": "Gold reward"} if len(plotted) > 1 else None


def _is_on_proxy(reward: TrainingReward | None) -> bool:
    return reward is not None and reward.uses_proxy


def _gain(
    model: str, proxy: dict[str, Any], gold: dict[str, Any], kl: float | None, reward: TrainingReward | None
) -> RewardGain:
    both = significance(proxy), significance(gold)
    text = INTERPRETATIONS.get(both, "no clear change")
    return RewardGain(
        display_name(model),
        format_measure(mean_value(proxy), signed=True),
        format_interval(proxy, signed=True),
        format_measure(mean_value(gold), signed=True),
        format_interval(gold, signed=True),
        format_measure(kl),
        OVER_OPTIMISED if both == (RISE, FALL) and _is_on_proxy(reward) else text,
        reward.text if reward else "",
    )


INTERPRETATIONS: Final = {  # significance of (proxy, gold) -> text
    (RISE, RISE): "both rose",
    (RISE, FALL): "the proxy rose and gold fell",
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
