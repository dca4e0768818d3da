"""Recorded trajectories of agents (tau-bench): the reward of a task, and pass^k over its trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import comb
from typing import Final

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, instance_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval

REWARD_TOLERANCE: Final = 1e-6  # a task succeeds where its reward is 1 (sierra-research/tau-bench:tau_bench/run.py)


@instance_metric("task_reward", Measure("reward"), Measure("success"))
def task_reward(outcome: Outcome) -> dict[str, float]:
    """The recorded reward, and whether it is 1."""
    given = outcome.metadata.get("reward")
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UserError(f"instance {outcome.instance.id}: reward: expected a recorded number, got {given!r}")
    return {"reward": float(given), "success": float(abs(given - 1) <= REWARD_TOLERANCE)}


@corpus_metric("pass_hat_k", Measure("pass^*"), over_trials=True)
def pass_hat_k(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """pass^k: the probability that k independent trials of a task all succeed (Yao et al. 2024, arXiv:2406.12045).

    Estimated without bias for each task by C(c, k) / C(n, k), c successes in n trials, and averaged over the tasks that
    have k trials. The interval resamples tasks, the clusters of trials.
    """
    successes: dict[str, list[float]] = defaultdict(list)
    for one in scored:
        successes[one.outcome.instance.id].append(one.scores["success"])
    found = {}
    for k in range(1, 1 + max((len(several) for several in successes.values()), default=0)):
        values = [pass_hat_estimate(int(sum(one)), len(one), k) for one in successes.values() if len(one) >= k]
        found[f"pass^{k}"] = mean_interval(values)
    return found


def pass_hat_estimate(successes: int, trials: int, k: int) -> float:
    """C(successes, k) / C(trials, k): the share of the sets of k trials in which all succeed."""
    return comb(successes, k) / comb(trials, k)
