"""From the calls that a profiler saw to shares of the wall time: what each operator belongs to.

Nothing is left out and nothing counted twice: an operator counts with the time of its own, without that of the
operators it called, and what is left of the wall time is Python and dispatch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

SPAN: Final = "where time goes: "  # begins the names of the spans that the benchmark puts around functions
COLUMNS: Final = {
    "products": "matrix products",
    "attention": "attention",
    "elementwise": "norms, elementwise, copies",
    "head_products": "products of the head",
    "head": "softmax of the head",
    "optimizer": "optimizer",
    "sampling": "sampling",
    "layers": "compiled layers",
    "data": "data, collation",
    "python": "Python, dispatch",
}
# What happens beneath such a call belongs to it whole, Python included; the outermost one decides.
WHOLE: Final = {f"{SPAN}sampling": "sampling", f"{SPAN}data": "data", f"{SPAN}optimizer": "optimizer",
                "Optimizer.": "optimizer",
                # Kernels: functions with a gradient go by their own names, the sampler's by spans.
                "_Attention": "attention", "_Norm": "elementwise", "_Gated": "elementwise", "_Rotated": "elementwise",
                f"{SPAN}compiled attention": "attention", f"{SPAN}compiled elementwise": "elementwise",
                f"{SPAN}compiled layers": "layers", f"{SPAN}compiled softmax": "head"}  # fmt: skip
# Of these only the operators beneath them; the innermost decides.
PARTS: Final = {f"{SPAN}attention": "attention", "Gathered": "attention", "scaled_dot_product": "attention",
                f"{SPAN}head": "head", "_LogProbs": "head"}  # fmt: skip
PRODUCTS: Final = frozenset(
    f"aten::{name}"
    for name in ("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "matmul", "linear", "mv", "addmv")
) | {"mkldnn::_linear_pointwise"}
# Functions whose time is not told by the names of operators, and the column that they belong to.
SPANS: Final = {
    "torch.nn.utils.clip_grad_norm_": "optimizer",
    "zhenlong.data.Mixture.draw": "data",
    "zhenlong.forest.budget.micro_batches": "data",
    "zhenlong.forest.budget.plant": "data",
    "zhenlong.forest.view.View.layout": "data",
    "zhenlong.forest.head.by_kernel": "compiled softmax",
    "zhenlong.forest.head.raised": "compiled softmax",
    "zhenlong.sampling.TorchSampler.sample": "sampling",
    "zhenlong.evaluate.runner.prefixes._plant": "data",
    "zhenlong.evaluate.runner.tokens.Tokens.queries": "data",
    "zhenlong.evaluate.runner.cache.Cache.read": "data",
    "zhenlong.evaluate.runner.cache.Cache.write": "data",
}
# Where all is sampling, its own parts: attention, and the drawing of tokens.
OF_SAMPLING: Final = {
    "zhenlong.sampling.fused.flat_attention": "attention",
    "zhenlong.sampling.batch.draw": "sampling",
    "zhenlong.kernels.decoding.decoding_attention": "compiled attention",
    "zhenlong.kernels.decoding.Layers.__call__": "compiled layers",
    "zhenlong.kernels.elementwise.norm_rows": "compiled elementwise",
    "zhenlong.kernels.elementwise.gate_rows": "compiled elementwise",
    "zhenlong.kernels.elementwise.rotate_pairs": "compiled elementwise",
}
KEPT: Final = 12  # operators that a result names

Shares = dict[str, float]


def category(names: Sequence[str]) -> str:
    """The column of an operator, from the names of the calls it happened in, outermost first, and its own."""
    for name in names:
        for sign, whole in WHOLE.items():
            if name.startswith(sign):
                return whole
    own = names[-1]
    if not own.startswith(("aten::", "mkldnn::")):
        return "python"
    part = next((part for name in reversed(names) for sign, part in PARTS.items() if sign in name), "")
    if part == "head":
        return "head_products" if own in PRODUCTS else "head"
    return part or ("products" if own in PRODUCTS else "elementwise")


def shares(events: Iterable[Any], wall: float) -> tuple[Shares, Shares]:
    """Shares of `wall` microseconds by column, which sum to 1, and of the operators that take most, by column and name.

    Events are those of a profiler: `name`, `cpu_parent` and `self_cpu_time_total`. Raises `ValueError` if they took
    longer than the wall time, which two threads side by side would.
    """
    spent: dict[str, float] = dict.fromkeys(COLUMNS, 0.0)
    named: dict[str, float] = defaultdict(float)
    for event in events:
        column = category(_path(event))
        if column != "python":
            spent[column] += event.self_cpu_time_total
            named[f"{column}: {event.name}"] += event.self_cpu_time_total
    operators = sum(spent.values())
    if operators > wall:
        raise ValueError(f"operators took {operators:.0f} of {wall:.0f} microseconds; do they run in several threads?")
    spent["python"] = wall - operators
    most = sorted(named.items(), key=lambda one: -one[1])[:KEPT]
    return {name: part / wall for name, part in spent.items()}, {name: part / wall for name, part in most}


def table(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each stage, or two where it was measured `before`."""
    two = bool(before)
    lines = [f"| stage | model, shape |{' |' * two} ms a step | {' | '.join(COLUMNS.values())} |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    earlier = {_about(row): row for row in before}
    for row in now:
        for when, one in (("before", earlier.get(_about(row))), ("now", row)):
            if one is None:
                continue
            cells = [
                one["work"],
                f"{one['model']}, {one['shape']}",
                *([when] if two else []),
                f"{one['milliseconds']:,.0f}",
            ]
            cells += [f"{one['shares'][name]:.1%}" if one["shares"].get(name) else "" for name in COLUMNS]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _about(row: dict[str, Any]) -> tuple[str, ...]:
    return row["work"], row["model"], row["shape"]


def _path(event: Any) -> list[str]:
    names = [event.name]
    while event.cpu_parent is not None:
        event = event.cpu_parent
        names.append(event.name)
    return names[::-1]
