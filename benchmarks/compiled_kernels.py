"""Each compiled kernel against PyTorch's operations: first equality of results, then the times of both, interleaved.

    .venv/bin/python benchmarks/compiled_kernels.py [--threads 2] [--repeats 15] [--page docs/performance.md]

Times are medians in milliseconds. Matrix multiplications compare oneDNN with the MKL of `torch.nn.functional.linear`.
With `--page` the table is written between the markers of that page.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import results_table
import torch
from argument_types import optional_path, positive_int
from torch.nn.functional import linear, silu

from zhenlong.forest import Forest, TreeNode, lm_head, make_tree, pack_trees
from zhenlong.forest.attention import forest_attention
from zhenlong.forest.lm_head import _LogProbs
from zhenlong.kernels import build, fused_ops, onednn_linear

MARKERS: Final = "<!-- table of compiled_kernels.py: begin -->", "<!-- table of compiled_kernels.py: end -->"
Operation = Callable[..., Any]
KernelCase = tuple[str, str, Operation, Operation]  # operation, shape, kernel, PyTorch


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--threads", type=positive_int, default=os.cpu_count(), help="threads of PyTorch (default: one per core)"
    )
    parser.add_argument("--repeats", type=positive_int, default=15, help="repeats per side, interleaved (default: 15)")
    parser.add_argument("--page", type=optional_path, help="page whose table is updated; empty: none")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if build.load_library() is None:
        print(
            "benchmarks/compiled_kernels.py needs compiled kernels, and none are available; is a C compiler installed?"
        )
        return 2
    machine = results_table.machine_info(args.threads)
    lines = ["| operation | shape | kernel | PyTorch | ratio |", "|---|---|---|---|---|"]
    for what, shape, ours, theirs in kernel_cases():
        torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-3)
        spent = median_seconds(ours, theirs, args.repeats)
        cells = [what, shape, *(f"{1e3 * one:,.2f} ms" for one in spent), f"{spent[1] / spent[0]:.1f} ×"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    table_text = f"{machine['cpu']}, {args.threads} threads, torch {torch.__version__}.\n\n" + "\n".join(lines)
    if args.page:
        results_table.replace_between_markers(args.page, MARKERS, table_text)
    return 0


def median_seconds(ours: Operation, theirs: Operation, repeats: int) -> tuple[float, float]:
    """Median seconds of both, interleaved."""
    spent: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats):
        sides = [(ours, spent[0]), (theirs, spent[1])]
        for run, seconds in sides if repeat % 2 else reversed(sides):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return statistics.median(spent[0]), statistics.median(spent[1])


def kernel_cases() -> list[KernelCase]:
    """All kernels with their PyTorch equivalents."""
    torch.manual_seed(0)
    found: list[KernelCase] = []
    for heads, size in ((4, 32), (8, 64)):
        for forest_name, forest in benchmark_forests():
            found += attention_cases(f"{forest_name}, {heads} heads of {size}", forest, heads, size)
    for width in (128, 512):
        found += elementwise_cases(4096, width, 3 * width)
    for shape in ((4096, 128, 384), (4608, 512, 1408)):
        found += matmul_cases(*shape)
        if onednn_linear.BF16_MATMUL_SUPPORTED:
            found += matmul_cases(*shape, bf16=True)
        found += [weight_gradient_case(*shape), transposed_copy_case(shape[0], shape[2])]
    found += [lm_head_case(2048, 128, vocabulary) for vocabulary in (4096, 32000)]
    return found


def benchmark_forests() -> list[tuple[str, Forest]]:
    """Forests with the shapes of `make bench`."""
    lengths = np.random.default_rng(0)

    def some(low: int, high: int) -> list[int]:
        return [1] * int(lengths.integers(low, high))

    return [
        ("16 conversations of 112 to 208", pack_trees([TreeNode(some(112, 208)) for _ in range(16)])),
        (
            "16 pairs, 16 to 48 + 2 × 96 to 160",
            pack_trees([make_tree(some(16, 48), [some(96, 160)] * 2) for _ in range(16)]),
        ),
        ("8 groups, 192 to 320 + 8 × 32", pack_trees([make_tree(some(192, 320), [[1] * 32] * 8) for _ in range(8)])),
    ]


def attention_cases(forest_name: str, forest: Forest, heads: int, head_size: int) -> list[KernelCase]:
    q, k, v = (torch.randn(1, heads, len(forest.tokens), head_size, requires_grad=True) for _ in range(3))

    def forward() -> torch.Tensor:
        return forest_attention(torch.nn.Module(), q, k, v, None, forest=forest)[0]

    return forward_backward_cases("attention", forest_name, forward, (q, k, v))


def elementwise_cases(count: int, width: int, ffn_size: int) -> list[KernelCase]:
    states, weight = torch.randn(count, width, requires_grad=True), torch.rand(width, requires_grad=True)
    gate, up = (torch.randn(count, ffn_size, requires_grad=True) for _ in range(2))

    def norm() -> torch.Tensor:  # as transformers' layers have it
        return weight * (states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6))

    def swiglu() -> torch.Tensor:
        return silu(gate) * up

    by_width, by_ffn_size = f"{count:,} × {width}", f"{count:,} × {ffn_size}"
    return [
        *forward_backward_cases(
            "RMSNorm", by_width, lambda: fused_ops.rms_norm(states, weight, 1e-6), (states, weight), norm
        ),
        *forward_backward_cases("SwiGLU", by_ffn_size, lambda: fused_ops.swiglu(gate, up), (gate, up), swiglu),
    ]


def matmul_cases(count: int, inputs: int, outputs: int, bf16: bool = False) -> list[KernelCase]:
    """In fp32 or mixed precision; PyTorch's side by autocast, including the cast of its result."""
    states, weight = (torch.randn(size, inputs, requires_grad=True) for size in (count, outputs))

    def run(by: Operation) -> Operation:
        def given() -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return by(states, weight, None).float()

        return given

    what = "matmul, bf16" if bf16 else "matmul"
    return forward_backward_cases(
        what, f"{count:,} × {inputs} × {outputs:,}", run(onednn_linear.linear), (states, weight), run(linear)
    )


def weight_gradient_case(count: int, inputs: int, outputs: int) -> KernelCase:
    """oneDNN against MKL, whichever of the two is the default on this processor."""
    states, gradient = torch.randn(count, inputs), torch.randn(count, outputs)

    def by_onednn() -> torch.Tensor:
        with patch.object(onednn_linear, "ONEDNN_WEIGHT_GRADIENT", True):
            return onednn_linear.weight_gradient(gradient, states)

    what = f"{count:,} × {inputs} × {outputs:,}"
    return "weight gradient, oneDNN", what, by_onednn, lambda: gradient.t() @ states


def transposed_copy_case(count: int, width: int) -> KernelCase:
    """What oneDNN's weight gradients need."""
    states = torch.randn(count, width)
    return (
        "transposed copy",
        f"{count:,} × {width:,}",
        lambda: onednn_linear.transposed_copy(states),
        lambda: states.t().contiguous(),
    )


def lm_head_case(count: int, inputs: int, vocab_size: int) -> KernelCase:
    states, weight = (torch.randn(size, inputs, requires_grad=True) for size in (count, vocab_size))
    target, plain = torch.randint(vocab_size, (count,)), (1.0, None, 1.0)

    def run() -> Any:  # backward overwrites tensors saved by forward
        scored, entropy = _LogProbs.apply(states, weight, None, target, plain, True)
        return entropy, *torch.autograd.grad(scored.sum(), (states, weight))

    def by_torch() -> Any:  # the softmax only: matmuls stay those of oneDNN
        with patch.object(lm_head, "supports", lambda logits: False):
            return run()

    return "LM head and entropy, forward and backward", f"{count:,} × {inputs} × {vocab_size:,}", run, by_torch


def forward_backward_cases(
    what: str, shape: str, ours: Operation, inputs: tuple[torch.Tensor, ...], theirs: Operation | None = None
) -> list[KernelCase]:
    """Forward only, and with gradients of `given`; `theirs` defaults to `ours` without kernels."""
    plain = theirs or without_kernels(ours)
    sides = [(run, run()) for run in (ours, plain)]
    weights = torch.randn(sides[0][1].shape)

    def backward(out: torch.Tensor) -> Operation:
        return lambda: torch.autograd.grad(out, inputs, weights, retain_graph=True)

    return [(what, shape, without_gradient(ours), without_gradient(plain)),
            (f"{what}, backward", shape, *(backward(out) for _, out in sides))]  # fmt: skip


def without_gradient(run: Operation) -> Operation:
    """The operation under `no_grad`."""

    def plain() -> Any:
        with torch.no_grad():
            return run()

    return plain


def without_kernels(run: Operation) -> Operation:
    """The operation with kernels disabled."""

    def plain() -> Any:
        with build.kernels_disabled():
            return run()

    return plain


if __name__ == "__main__":
    sys.exit(main())
