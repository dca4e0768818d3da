"""`make bench`: run all comparisons in sequence and write one results file and the table of docs/performance.md.

    make bench ARGS="--benchmark sft,dpo --model small --vocab_size 4096 --shape long_answer --pairs 2"

Each comparison first checks that both sides compute the same; one that differs or fails is reported, left out, and sets
the exit code to 1. docs/performance.md says what is compared, and how.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import evaluation
import results_table
import sampling
import torch
import training
import workload
from argument_types import optional_path, positive_int, subset_of
from interleaved_runs import SideProcess
from results_table import BenchmarkRow
from workload import WARM_UP, ResultsDiffer

BENCHMARKS: Final = ("sft", "reward_model", "dpo", "kto", "grpo", "ppo", "sampling", "multiple_choice")
MODELS: Final = ("small", "medium")
VOCAB_SIZES: Final = ("4096", "32000")
SHAPES: Final = ("long_answer", "long_prompt")
RESULTS: Final = Path(__file__).resolve().parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    torch.set_num_threads(args.threads)
    machine = results_table.machine_info(args.threads, args.device)
    print(f"load average {machine['load_before']:.2f} before the start; timings need an idle machine", flush=True)
    sides = SideProcess("zhenlong", "run_zhenlong"), SideProcess("TRL", "run_trl")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for model in args.model:
            for vocab_size in map(int, args.vocab_size):
                for benchmark in args.benchmark:
                    for shape in args.shape + ["letters"] * (benchmark == "multiple_choice"):
                        failed += not _run_comparison(
                            benchmark, model, vocab_size, shape, sides, args, machine, Path(folder)
                        )
    return 1 if failed else 0


def _run_comparison(
    benchmark: str,
    model: str,
    vocab_size: int,
    shape: str,
    sides: tuple[Any, Any],
    args: argparse.Namespace,
    machine: dict[str, Any],
    folder: Path,
) -> bool:
    """Run a comparison and write its rows immediately, so that an interruption loses one; False if sides differ."""
    started = time.perf_counter()
    compare = {
        "ppo": _compare_ppo_phases,
        "sampling": _compare_sampling,
        "multiple_choice": _compare_multiple_choice,
    }.get(benchmark, _compare_training)
    is_bf16 = args.dtype == "bfloat16" and args.device == "cpu"  # on a GPU every benchmark runs in bf16
    name = f"{model}-{vocab_size // 1000}k" + "-bf16" * is_bf16 + "-compiled" * args.compile
    print(f"{benchmark}, {name}, {shape}:", flush=True)
    try:
        found = compare(benchmark, name, shape, sides, _with_model(args, model, vocab_size), folder)
    except ResultsDiffer as error:
        print(f"{error}: left out", flush=True)
        return False
    except Exception as error:  # such as out of memory: go on with the other comparisons
        traceback.print_exc()
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        workload.release_device_memory(args.device)
    path = results_table.update_results_file(found, args.output, machine)
    if args.page:
        results_table.update_page_table(path, args.page)
    for one in found:
        print(f"   {results_table.format_row(one)}")
    print(f"   took {time.perf_counter() - started:.0f} s", flush=True)
    return True


def _with_model(args: argparse.Namespace, model: str, vocab_size: int) -> argparse.Namespace:
    changed = {"model": model, "vocab_size": vocab_size}
    return argparse.Namespace(**vars(args) | changed)


def _compare_training(
    benchmark: str, name: str, shape: str, sides: tuple[Any, Any], args: argparse.Namespace, folder: Path
) -> list[BenchmarkRow]:
    """Compare with TRL, tuned and with its defaults."""
    return [
        results_table.make_row(
            (benchmark, name, shape, f"trl-{found['against']}"),
            found["ratios"],
            found["tokens_per_s"],
            found["share_of_matmul_rate"],
            found.get("peak_memory_ratio"),
        )
        for found in training.compare_speed(benchmark, shape, sides, args, folder)
    ]


def _compare_ppo_phases(
    benchmark: str, name: str, shape: str, sides: tuple[Any, Any], args: argparse.Namespace, folder: Path
) -> list[BenchmarkRow]:
    """Compare a PPO step with the sum of its phases, timed in the same run."""
    spec, _ = training.prepare_run(benchmark, shape, args, folder, args.pairs * args.steps)
    run = sides[0].train(spec, training.zhenlong_options(args), function="train_with_phase_times")
    turn_seconds = [sum(turn) for turn in training.split_into_turns(run.seconds, args.steps)]
    parts = {
        name: [sum(turn) for turn in training.split_into_turns(seconds, args.steps)]
        for name, seconds in run.phase_seconds.items()
    }
    print(
        "   " + ", ".join(f"{name} {sum(spent) / sum(turn_seconds):.0%}" for name, spent in parts.items()), flush=True
    )
    sums = [sum(spent) for spent in zip(*parts.values(), strict=True)]
    generated = sum(run.generated_tokens[WARM_UP:])
    ratios = [part / seconds for part, seconds in zip(sums, turn_seconds, strict=True)]
    return [
        results_table.make_row(
            (benchmark, name, shape, "parts"),
            ratios,
            [generated / sum(turn_seconds), generated / sum(sums)],
            run.matmul_fraction,
        )
    ]


def _compare_sampling(
    benchmark: str, name: str, shape: str, sides: tuple[Any, Any], args: argparse.Namespace, folder: Path
) -> list[BenchmarkRow]:
    """Compare with transformers' `generate`."""
    found = sampling.measure_sampling(folder, workload.scaled_shape(args.model, shape), args)
    ratios = [ours / peer for ours, peer in found["speeds"]]
    return [
        results_table.make_row(
            (benchmark, name, shape, "transformers.generate"),
            ratios,
            _medians(found["speeds"]),
            found["matmul_fraction"],
        )
    ]


def _compare_multiple_choice(
    benchmark: str, name: str, shape: str, sides: tuple[Any, Any], args: argparse.Namespace, folder: Path
) -> list[BenchmarkRow]:
    """Against lm-evaluation-harness."""
    lengths = None if shape == "letters" else workload.scaled_shape(args.model, shape)
    found = evaluation.measure_multiple_choice(folder, lengths, args)
    ratios = [peer / ours for ours, peer in found["seconds"]]
    speeds = [found["tokens"] / seconds for seconds in _medians(found["seconds"])]
    return [results_table.make_row((benchmark, name, shape, "lm-evaluation-harness"), ratios, speeds)]


def _medians(pairs: Sequence[tuple[float, float]]) -> list[float]:
    return [statistics.median(side) for side in zip(*pairs, strict=True)]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, known, also in (
        ("benchmark", BENCHMARKS, ()),
        ("model", MODELS, ("default", "qwen-0.5b")),
        ("vocab_size", VOCAB_SIZES, ("151936",)),
        ("shape", SHAPES, ("even",)),
        ("against", ("tuned", "default"), ()),
    ):
        parser.add_argument(f"--{name}", type=subset_of((*known, *also)), default=list(known),
                            help=f"some of {','.join((*known, *also))} (default: {','.join(known)})")  # fmt: skip
    parser.add_argument("--pairs", type=positive_int, default=5, help="turns per side, A B, B A, ... (default: 5)")
    parser.add_argument("--steps", type=positive_int, default=2, help="timed training steps per turn (default: 2)")
    parser.add_argument("--questions", type=positive_int, default=64, help="multiple-choice questions (default: 64)")
    parser.add_argument(
        "--threads", type=positive_int, default=os.cpu_count(), help="threads per side (default: one per core)"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip peak memory")
    training.add_device_options(parser)
    add_output_options(parser)
    return parser.parse_args(argv)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for output files."""
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument(
        "--page",
        type=optional_path,
        default=results_table.PERFORMANCE_PAGE,
        help="page whose table is updated; empty: none",
    )


if __name__ == "__main__":
    sys.exit(main())
