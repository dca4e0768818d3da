"""A forward and backward pass over a forest with three backends: PyTorch's operations, the kernels, and compiled.

    python benchmarks/forward_backward.py --device cuda --dtype bfloat16 --model qwen-0.5b --vocab_size 151936 --scale 4

Same weights and rows; losses and gradient norms of all three are printed for comparison. Times are medians, memory is
torch's peak allocation (on CUDA). `--operations 20` lists the operations that take most time on the device with the
kernels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
import workload
from argument_types import positive_int

from zhenlong.forest import Forest, forward, log_probs, make_tree, pack_trees
from zhenlong.kernels import patching
from zhenlong.kernels.build import kernels_disabled
from zhenlong.models.load import compile_layers

WARM_UP: Final = 3
SHAPES: Final = (("conversations", 24, 32, 1, 128), ("pairs", 12, 256, 2, 32), ("groups", 12, 64, 8, 32))
BACKENDS: Final = ("torch", "kernels", "compile")


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    device = torch.device(args.device)
    with device:
        model = workload.new_model(workload.MODEL_SIZES[args.model], args.vocab_size).train()
    forests = {
        f"{what}: {trees} × ({prompt} + {answers} × {length})": _forest(trees, prompt, answers, length, args)
        for what, trees, prompt, answers, length in (
            (what, trees, prompt * args.scale, answers, length * args.scale)
            for what, trees, prompt, answers, length in SHAPES
        )
    }
    print(f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'}, torch {torch.__version__}")
    print("| pass | tokens | backend | ms | loss | gradient norm | GiB |\n" + "|---" * 7 + "|")
    for backend in args.backend:
        patching.unpatch_model(model)
        if backend == "kernels":
            patching.patch_model(model)
        elif backend == "compile":
            compile_layers(model)
            started = time.perf_counter()
            _forward_backward(model, next(iter(forests.values())), args.dtype)
            print(f"compiling took {time.perf_counter() - started:.0f} s")
        for what, forest in forests.items():
            if backend == "torch":
                with kernels_disabled():
                    found = _measure(model, forest, args)
            else:
                found = _measure(model, forest, args)
            print(f"| {what} | {len(forest.tokens)} | {backend} | {' | '.join(found)} |", flush=True)
            if backend == "kernels" and args.operations:
                print(_operations(model, forest, args))
    return 0


def _forest(trees: int, prompt: int, num_responses: int, length: int, args: argparse.Namespace) -> Forest:
    rng = np.random.default_rng(0)

    def ids(count: int) -> list[int]:
        return rng.integers(3, args.vocab_size - 1, count).tolist()

    return pack_trees(
        [make_tree(ids(prompt), [ids(length) for _ in range(num_responses)]) for _ in range(trees)], args.device
    )


def _measure(model: torch.nn.Module, forest: Forest, args: argparse.Namespace) -> list[str]:
    cuda = args.device == "cuda"
    for _ in range(WARM_UP):
        loss = _forward_backward(model, forest, args.dtype)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(args.repeats):
        started = time.perf_counter()
        _forward_backward(model, forest, args.dtype)
        seconds.append(time.perf_counter() - started)
    norm = torch.stack([part.grad.norm() for part in model.parameters() if part.grad is not None]).norm()
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if cuda else ""
    return [f"{1e3 * statistics.median(seconds):.1f}", f"{loss:.6f}", f"{norm:.5f}", memory]


def _forward_backward(model: torch.nn.Module, forest: Forest, dtype: str) -> float:
    """One forward and backward pass; returns the mean loss."""
    model.zero_grad()
    kind = getattr(torch, dtype)
    with torch.autocast(forest.tokens.device.type, kind, enabled=kind != torch.float32):
        loss = -log_probs(model, forward(model, forest), forest).mean()
    loss.backward()
    return float(loss.detach())  # synchronizes with the device


def _operations(model: torch.nn.Module, forest: Forest, args: argparse.Namespace) -> str:
    """Device milliseconds of one pass, by operation."""
    with torch.profiler.profile() as profile:
        _forward_backward(model, forest, args.dtype)
        if args.device == "cuda":
            torch.cuda.synchronize()
    cuda = args.device == "cuda"
    spent = [
        (one.self_device_time_total if cuda else one.self_cpu_time_total, one.count, one.key)
        for one in profile.key_averages()
        if not cuda or one.device_type.name == "CUDA"
    ]
    lines = [f"{us / 1e3:9.2f} ms {count:6d}  {name[:90]}" for us, count, name in sorted(spent, reverse=True)]
    total = f"{sum(us for us, *_ in spent) / 1e3:9.2f} ms {sum(count for _, count, _ in spent):6d}  in all"
    return "\n".join([total, *lines[: args.operations]])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", choices=tuple(workload.MODEL_SIZES), default="small", help="model size (default: small)"
    )
    parser.add_argument("--vocab_size", type=int, default=4096, help="vocabulary size (default: 4096)")
    parser.add_argument("--scale", type=int, default=1, help="multiplies the lengths of the rows (default: 1)")
    parser.add_argument("--repeats", type=positive_int, default=8, help="timed passes (default: 8)")
    parser.add_argument("--operations", type=int, default=0, help="number of operations to list (default: 0)")
    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="backends to run (default: all)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device (default: cpu)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="dtype of matrix multiplications (default: float32)")  # fmt: skip
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
