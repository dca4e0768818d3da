"""Measured inference cost: seconds, tokens, FLOPs and memory (HELM's category efficiency)."""

from __future__ import annotations

from collections.abc import Sequence

from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.results.result_files import Result
from zhenlong.evaluate.statistics.bootstrap import UNKNOWN
from zhenlong.evaluate.statistics.intervals import Interval, ratio_interval
from zhenlong.inference.requests import RequestCost


def efficiency_results(outcomes: Sequence[Outcome], seed: int = 0) -> list[Result]:
    """The efficiency measures over the outcomes with a measured cost; empty if there are none.

    `seconds_per_request`, `prompt_tokens` and `generated_tokens` are means over requests, `tokens_per_second` is all
    prompt and generated tokens over all seconds, `generated_tokens_per_second` the generated ones only,
    `flops_per_request` the mean number of floating-point operations, `peak_memory` the maximum in bytes.

    Requests of one batch share its seconds, so that times have as many observations as there were batches. They have no
    interval: batches of one run share the machine and its load, and their spread says nothing about another run.
    """
    costs = [one.cost for one in outcomes if one.cost is not None]
    timed = [cost for cost in costs if cost.seconds > 0]
    found: dict[str, tuple[Interval, bool | None]] = {}
    if costs:
        found["prompt_tokens"] = _mean([cost.prompt_tokens for cost in costs], seed), None
        found["generated_tokens"] = _mean([cost.generated_tokens for cost in costs], seed), None
    if timed:
        seconds = [cost.seconds for cost in timed]
        batches = num_batches(timed)
        found["seconds_per_request"] = Interval(sum(seconds) / len(timed), UNKNOWN, batches), False
        found["tokens_per_second"] = Interval(sum(map(_tokens, timed)) / sum(seconds), UNKNOWN, batches), True
        if any(cost.generated_tokens for cost in timed):
            written = sum(cost.generated_tokens for cost in timed)
            found["generated_tokens_per_second"] = Interval(written / sum(seconds), UNKNOWN, batches), True
    flops = [cost.flops for cost in costs if cost.flops is not None]
    if flops:
        found["flops_per_request"] = _mean(flops, seed), False
    memory = [cost.peak_memory for cost in costs if cost.peak_memory is not None]
    if memory:
        found["peak_memory"] = Interval(float(max(memory)), UNKNOWN, 1), False
    return [Result("", "", name, value, "efficiency", better) for name, (value, better) in found.items()]


def num_batches(costs: Sequence[RequestCost]) -> int:
    """The number of batches that requests were answered in: the number of times that were measured."""
    return max(1, round(sum(1 / cost.batch_size for cost in costs)))


def _tokens(cost: RequestCost) -> int:
    return cost.prompt_tokens + cost.generated_tokens


def _mean(values: Sequence[float], seed: int) -> Interval:
    """The mean with a bootstrap interval, even if all values happen to be 0 or 1: they are not proportions."""
    return ratio_interval(values, [1] * len(values), seed)
