"""Categories of operators: from a profiler's events to fractions of the wall time.

Every event counts exactly once: an operator counts with its self time, without the operators it calls, and the rest of
the wall time is Python and dispatch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

SPAN_PREFIX: Final = "where time goes: "  # prefix of the spans that the benchmark records around functions
OPERATOR_CATEGORIES: Final = {
    "products": "matrix products",
    "attention": "attention",
    "elementwise": "norms, elementwise, copies",
    "head_products": "matmuls of the head",
    "head": "softmax of the head",
    "optimizer": "optimizer",
    "sampling": "sampling",
    "layers": "compiled layers",
    "data": "data, collation",
    "python": "Python, dispatch",
}
# Everything inside such a call belongs to its category, Python included; the outermost call decides.
SUBTREE_CATEGORIES: Final = {
    f"{SPAN_PREFIX}sampling": "sampling",
    f"{SPAN_PREFIX}data": "data",
    f"{SPAN_PREFIX}optimizer": "optimizer",
    "Optimizer.": "optimizer",
    # Kernels: functions with a gradient go by their own names, the sampler's by spans.
    "_ForestAttention": "attention",
    "_RMSNorm": "elementwise",
    "_SwiGLU": "elementwise",
    "_RoPE": "elementwise",
    f"{SPAN_PREFIX}compiled attention": "attention",
    f"{SPAN_PREFIX}compiled elementwise": "elementwise",
    f"{SPAN_PREFIX}compiled layers": "layers",
    f"{SPAN_PREFIX}compiled softmax": "head",
}
# Only the operators inside these calls belong to the category; the innermost call decides.
ENCLOSING_CATEGORIES: Final = {
    f"{SPAN_PREFIX}attention": "attention",
    "GatherRows": "attention",
    "scaled_dot_product": "attention",
    f"{SPAN_PREFIX}head": "head",
    "_LogProbs": "head",
}
MATMUL_OPERATORS: Final = frozenset(
    f"aten::{name}"
    for name in ("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "matmul", "linear", "mv", "addmv")
) | {"mkldnn::_linear_pointwise"}
# Functions that operator names do not identify, and their category.
FUNCTION_SPANS: Final = {
    "torch.nn.utils.clip_grad_norm_": "optimizer",
    "zhenlong.data.Mixture.draw": "data",
    "zhenlong.forest.packing.microbatch_indices": "data",
    "zhenlong.forest.packing.pack_trees": "data",
    "zhenlong.forest.attention_metadata.AttentionMetadata.block_layout": "data",
    "zhenlong.forest.lm_head.kernel_log_softmax_gather": "compiled softmax",
    "zhenlong.forest.lm_head.exp_rows": "compiled softmax",
    "zhenlong.sampling.TorchSampler.sample": "sampling",
    "zhenlong.inference.prefixes._pack_batch": "data",
    "zhenlong.inference.tokens.RequestTokenizer.continuation_sequences": "data",
    "zhenlong.inference.cache.RequestCache.read": "data",
    "zhenlong.inference.cache.RequestCache.write": "data",
}
# For the sampling benchmark: attention and token sampling separately.
SAMPLING_SPANS: Final = {
    "zhenlong.sampling.fused_llama.flat_attention": "attention",
    "zhenlong.sampling.continuous_batch.sample_tokens": "sampling",
    "zhenlong.sampling.attention.decoding_attention": "compiled attention",
    "zhenlong.kernels.decoding.CompiledDecoder.__call__": "compiled layers",
    "zhenlong.kernels.fused_ops.rms_norm_rows": "compiled elementwise",
    "zhenlong.kernels.fused_ops.swiglu_rows": "compiled elementwise",
    "zhenlong.kernels.fused_ops.apply_rope_interleaved": "compiled elementwise",
}
MAX_LISTED_OPERATORS: Final = 12  # operators listed in a result

TimeFractions = dict[str, float]


def operator_category(names: Sequence[str]) -> str:
    """The category of an operator, from the names of its enclosing calls, outermost first, and its own."""
    for name in names:
        for sign, whole in SUBTREE_CATEGORIES.items():
            if name.startswith(sign):
                return whole
    own = names[-1]
    if not own.startswith(("aten::", "mkldnn::")):
        return "python"
    part = next((part for name in reversed(names) for sign, part in ENCLOSING_CATEGORIES.items() if sign in name), "")
    if part == "head":
        return "head_products" if own in MATMUL_OPERATORS else "head"
    return part or ("products" if own in MATMUL_OPERATORS else "elementwise")


def time_fractions(events: Iterable[Any], wall: float) -> tuple[TimeFractions, TimeFractions]:
    """Fractions of `wall` microseconds by category, which sum to 1, and of the most expensive operators.

    Events are a profiler's: `name`, `cpu_parent` and `self_cpu_time_total`. Raises `ValueError` if they take longer
    than the wall time, as events of parallel threads would.
    """
    time_by_category: dict[str, float] = dict.fromkeys(OPERATOR_CATEGORIES, 0.0)
    time_by_operator: dict[str, float] = defaultdict(float)
    for event in events:
        column = operator_category(_call_path(event))
        if column != "python":
            time_by_category[column] += event.self_cpu_time_total
            time_by_operator[f"{column}: {event.name}"] += event.self_cpu_time_total
    operators = sum(time_by_category.values())
    if operators > wall:
        raise ValueError(f"operators took {operators:.0f} of {wall:.0f} microseconds; do they run in several threads?")
    time_by_category["python"] = wall - operators
    slowest = sorted(time_by_operator.items(), key=lambda one: -one[1])[:MAX_LISTED_OPERATORS]
    return {name: part / wall for name, part in time_by_category.items()}, {name: part / wall for name, part in slowest}


def profile_table(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row per stage, or two if it was measured `before`."""
    with_before = bool(before)
    lines = [f"| stage | model, shape |{' |' * with_before} ms a step | {' | '.join(OPERATOR_CATEGORIES.values())} |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    earlier = {_row_key(row): row for row in before}
    for row in after:
        for when, one in (("before", earlier.get(_row_key(row))), ("now", row)):
            if one is None:
                continue
            cells = [
                one["work"],
                f"{one['model']}, {one['shape']}",
                *([when] if with_before else []),
                f"{one['milliseconds']:,.0f}",
            ]
            cells += [f"{one['shares'][name]:.1%}" if one["shares"].get(name) else "" for name in OPERATOR_CATEGORIES]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row_key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["work"], row["model"], row["shape"]


def _call_path(event: Any) -> list[str]:
    names = [event.name]
    while event.cpu_parent is not None:
        event = event.cpu_parent
        names.append(event.name)
    return names[::-1]
