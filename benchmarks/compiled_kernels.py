"""Each compiled kernel against PyTorch's own operations: the same numbers first, then the times of both, in turn.

    .venv/bin/python benchmarks/compiled_kernels.py [--threads 2] [--repeats 15] [--page docs/performance.md]

Milliseconds are medians. Products compare oneDNN with the MKL of `torch.nn.functional.linear`. With `--page` the table
goes between the markers of that page.
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
import rows
import torch
from arguments import above_zero, page_of
from torch.nn.functional import linear, silu

from zhenlong.forest import Forest, Node, plant, tree
from zhenlong.forest.attention import forest_attention
from zhenlong.forest.head import _LogProbs
from zhenlong.kernels import build, elementwise, products
from zhenlong.sampling import Sampling
from zhenlong.sampling.draw import draw

MARKERS: Final = "<!-- table of compiled_kernels.py: begin -->", "<!-- table of compiled_kernels.py: end -->"
Run = Callable[..., Any]
Case = tuple[str, str, Run, Run]  # what, its shape, by the kernel, by PyTorch


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=above_zero, default=os.cpu_count(), help="of PyTorch (default: one a core)")
    parser.add_argument("--repeats", type=above_zero, default=15, help="of each side, in turn (default: 15)")
    parser.add_argument("--page", type=page_of, help="page whose table is renewed; empty for none")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    if build.library() is None:
        print(
            "benchmarks/compiled_kernels.py compares compiled kernels, and there are none here: is there a C compiler?"
        )
        return 2
    machine = rows.machine(asked.threads)
    lines = ["| operation | shape | kernel | PyTorch | ratio |", "|---|---|---|---|---|"]
    for what, shape, ours, theirs in cases():
        torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-3)
        spent = timed(ours, theirs, asked.repeats)
        cells = [what, shape, *(f"{1e3 * one:,.2f} ms" for one in spent), f"{spent[1] / spent[0]:.1f} ×"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    told = f"{machine['cpu']}, {asked.threads} threads, torch {torch.__version__}.\n\n" + "\n".join(lines)
    if asked.page:
        rows.renew(asked.page, MARKERS, told)
    return 0


def timed(ours: Run, theirs: Run, repeats: int) -> tuple[float, float]:
    """Median seconds of both, taken in turn."""
    spent: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats):
        sides = [(ours, spent[0]), (theirs, spent[1])]
        for run, seconds in sides if repeat % 2 else reversed(sides):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return statistics.median(spent[0]), statistics.median(spent[1])


def cases() -> list[Case]:
    """What is compared."""
    torch.manual_seed(0)
    found: list[Case] = []
    for heads, size in ((4, 32), (8, 64)):
        for told, forest in forests():
            found += attention(f"{told}, {heads} heads of {size}", forest, heads, size)
    for width in (128, 512):
        found += between(4096, width, 3 * width)
    for shape in ((4096, 128, 384), (4608, 512, 1408)):
        found += product(*shape)
        if products.MULTIPLIES_BF16:
            found += product(*shape, half=True)
        found.append(gradient_of_weights(*shape))
    found += [head(2048, 128, vocabulary) for vocabulary in (4096, 32000)]
    logits, uniforms = torch.randn(64, 32000), torch.rand(64, 1, dtype=torch.float64)
    run = lambda: draw(logits, uniforms, Sampling())[1]  # noqa: E731
    found.append(("drawing", "64 rows of 32,000", run, without(run)))
    return found


def forests() -> list[tuple[str, Forest]]:
    """The shapes of `make bench`."""
    lengths = np.random.default_rng(0)

    def some(low: int, high: int) -> list[int]:
        return [1] * int(lengths.integers(low, high))

    return [
        ("16 conversations of 112 to 208", plant([Node(some(112, 208)) for _ in range(16)])),
        ("16 pairs, 16 to 48 + 2 × 96 to 160", plant([tree(some(16, 48), [some(96, 160)] * 2) for _ in range(16)])),
        ("8 groups, 192 to 320 + 8 × 32", plant([tree(some(192, 320), [[1] * 32] * 8) for _ in range(8)])),
    ]


def attention(told: str, forest: Forest, heads: int, size: int) -> list[Case]:
    q, k, v = (torch.randn(1, heads, len(forest.tokens), size, requires_grad=True) for _ in range(3))

    def forward() -> torch.Tensor:
        return forest_attention(torch.nn.Module(), q, k, v, None, forest=forest)[0]

    return both("attention", told, forward, (q, k, v))


def between(count: int, width: int, inner: int) -> list[Case]:
    states, weight = torch.randn(count, width, requires_grad=True), torch.rand(width, requires_grad=True)
    gate, up = (torch.randn(count, inner, requires_grad=True) for _ in range(2))
    q = torch.randn(1, width // 32, count, 32, requires_grad=True)
    cos, sin = (torch.randn(1, count, 16).repeat(1, 1, 2) for _ in range(2))

    def norm() -> torch.Tensor:  # as transformers' layers have it
        return weight * (states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6))

    def turned() -> torch.Tensor:
        half = q.shape[-1] // 2
        return q * cos.unsqueeze(1) + torch.cat((-q[..., half:], q[..., :half]), -1) * sin.unsqueeze(1)

    return [
        *both("norm", f"{count:,} × {width}", lambda: elementwise.rms_norm(states, weight, 1e-6), (states, weight),
              norm),
        *both("gated unit", f"{count:,} × {inner}", lambda: elementwise.gated(gate, up), (gate, up),
              lambda: silu(gate) * up),
        *both("rotation", f"{count:,} × {width}", lambda: elementwise.rotated(q, cos, sin), (q,), turned),
    ]  # fmt: skip


def product(count: int, inputs: int, outputs: int, half: bool = False) -> list[Case]:
    """In fp32, or as mixed precision has it, PyTorch's by autocast, with what its result is needed in."""
    states, weight = (torch.randn(size, inputs, requires_grad=True) for size in (count, outputs))

    def run(by: Run) -> Run:
        def given() -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                return by(states, weight, None).float()

        return given

    what = "product, bf16" if half else "product"
    return both(what, f"{count:,} × {inputs} × {outputs:,}", run(products.linear), (states, weight), run(linear))


def gradient_of_weights(count: int, inputs: int, outputs: int) -> Case:
    """By oneDNN, whichever of the two libraries is chosen on this processor, and by MKL."""
    states, gradient = torch.randn(count, inputs), torch.randn(count, outputs)

    def by_onednn() -> torch.Tensor:
        with patch.object(products, "OUTER_BY_ONEDNN", True):
            return products.outer(gradient, states)

    what = f"{count:,} × {inputs} × {outputs:,}"
    return "gradient of weights, oneDNN", what, by_onednn, lambda: gradient.t() @ states


def head(count: int, inputs: int, vocabulary: int) -> Case:
    states, weight = (torch.randn(size, inputs, requires_grad=True) for size in (count, vocabulary))
    target, plain = torch.randint(vocabulary, (count,)), (1.0, None, 1.0)

    def run() -> Any:  # backward overwrites what forward kept
        scored, entropy = _LogProbs.apply(states, weight, None, target, plain, True)
        return entropy, *torch.autograd.grad(scored.sum(), (states, weight))

    return "head and entropy, both passes", f"{count:,} × {inputs} × {vocabulary:,}", run, without(run)


def both(what: str, shape: str, ours: Run, given: tuple[torch.Tensor, ...], theirs: Run | None = None) -> list[Case]:
    """Forward alone, and the gradients of `given`; without `theirs` it is `ours` without kernels."""
    plain = theirs or without(ours)
    sides = [(run, run()) for run in (ours, plain)]
    weights = torch.randn(sides[0][1].shape)

    def backward(out: torch.Tensor) -> Run:
        return lambda: torch.autograd.grad(out, given, weights, retain_graph=True)

    return [(what, shape, no_gradient(ours), no_gradient(plain)),
            (f"{what}, backward", shape, *(backward(out) for _, out in sides))]  # fmt: skip


def no_gradient(run: Run) -> Run:
    """The same without what the backward pass needs."""

    def plain() -> Any:
        with torch.no_grad():
            return run()

    return plain


def without(run: Run) -> Run:
    """The same by PyTorch's operations."""

    def plain() -> Any:
        with build.switched_off():
            return run()

    return plain


if __name__ == "__main__":
    sys.exit(main())
