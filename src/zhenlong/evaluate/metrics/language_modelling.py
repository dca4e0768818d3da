"""Language modelling: bits per byte and perplexity, as totals over all texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zhenlong.evaluate.metrics.registry import Measure, corpus_metric
from zhenlong.evaluate.results.outcome import ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, ratio_interval


@corpus_metric("bits_per_byte", Measure("bits_per_byte", "accuracy", False))
def bits_per_byte(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """-log2 p of all texts divided by their UTF-8 bytes: comparable between tokenizers."""
    known = [one.outcome for one in scored if one.outcome.text_log_prob is not None and one.outcome.instance.input]
    if not known:
        return {}
    bits = [-(one.text_log_prob or 0.0) / math.log(2) for one in known]
    return {"bits_per_byte": ratio_interval(bits, [len(one.instance.input.encode()) for one in known])}


@corpus_metric("perplexity", Measure("perplexity", "accuracy", False))
def perplexity_metric(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """exp(-log p of all texts / their tokens): comparable only between models with the same tokenizer."""
    known = [one.outcome for one in scored if one.outcome.text_log_prob is not None and one.outcome.text_tokens]
    if not known:
        return {}
    mean = ratio_interval([-(one.text_log_prob or 0.0) for one in known], [one.text_tokens or 0 for one in known])
    low, high = mean.ci95
    return {"perplexity": Interval(math.exp(mean.mean), (math.exp(low), math.exp(high)), mean.n)}
