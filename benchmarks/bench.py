"""Every comparison, one after the other, into one results file and the table of docs/performance.md: `make bench`.

    make bench ARGS="--work sft,dpo --model small --vocabulary 4096 --shape long_answer --pairs 2"

Each comparison first checks that both sides compute the same; one that differs or fails is told, left out, and makes
the exit code 1. What is compared, and how, is in docs/performance.md.
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
import rows
import sampling
import torch
import training
import workload
from arguments import above_zero, page_of, some
from rows import Row
from turns import Side
from workload import WARM_UP, Unequal

WORKS: Final = ("sft", "reward_model", "dpo", "kto", "grpo", "ppo", "sampling", "multiple_choice")
MODELS: Final = ("small", "medium")
VOCABULARIES: Final = ("4096", "32000")
SHAPES: Final = ("long_answer", "long_prompt")
RESULTS: Final = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    torch.set_num_threads(asked.threads)
    machine = rows.machine(asked.threads, asked.device)
    print(f"load average {machine['load_before']:.2f} before the start; the figures need a quiet machine", flush=True)
    sides = Side("zhenlong", "zhenlong_side"), Side("TRL", "trl_side")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for model in asked.model:
            for vocabulary in map(int, asked.vocabulary):
                for work in asked.work:
                    for shape in asked.shape + ["letters"] * (work == "multiple_choice"):
                        failed += not _add(work, model, vocabulary, shape, sides, asked, machine, Path(folder))
    return 1 if failed else 0


def _add(
    work: str,
    model: str,
    vocabulary: int,
    shape: str,
    sides: tuple[Any, Any],
    asked: argparse.Namespace,
    machine: dict[str, Any],
    folder: Path,
) -> bool:
    """Make a comparison and write its rows at once, so that an interruption loses one; False if the sides differ."""
    started = time.perf_counter()
    compare = {"ppo": _ppo, "sampling": _sampling, "multiple_choice": _multiple_choice}.get(work, _training)
    half = asked.dtype == "bfloat16" and asked.device == "cpu"  # a GPU's rows have it all
    name = f"{model}-{vocabulary // 1000}k" + "-bf16" * half + "-compiled" * asked.compile
    print(f"{work}, {name}, {shape}:", flush=True)
    try:
        found = compare(work, name, shape, sides, _settings(asked, model, vocabulary), folder)
    except Unequal as error:
        print(f"{error}: left out", flush=True)
        return False
    except Exception as error:  # out of memory, say: the other comparisons are still worth having
        traceback.print_exc()
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        workload.release(asked.device)
    path = rows.write(found, asked.output, machine)
    if asked.page:
        rows.write_table(path, asked.page)
    for one in found:
        print(f"   {rows.told(one)}")
    print(f"   took {time.perf_counter() - started:.0f} s", flush=True)
    return True


def _settings(asked: argparse.Namespace, model: str, vocabulary: int) -> argparse.Namespace:
    changed = {"model": model, "vocabulary": vocabulary}
    return argparse.Namespace(**vars(asked) | changed)


def _training(
    work: str, name: str, shape: str, sides: tuple[Any, Any], asked: argparse.Namespace, folder: Path
) -> list[Row]:
    """Against TRL, tuned and at its defaults."""
    return [
        rows.row(
            (work, name, shape, f"trl-{found['against']}"),
            found["ratios"],
            found["tokens_per_s"],
            found["share_of_matmul_rate"],
            found.get("peak_memory_ratio"),
        )
        for found in training.speed(work, shape, sides, asked, folder)
    ]


def _ppo(
    work: str, name: str, shape: str, sides: tuple[Any, Any], asked: argparse.Namespace, folder: Path
) -> list[Row]:
    """Against the sum of its parts, which are timed within the same run."""
    given, _ = training.prepare(work, shape, asked, folder, asked.pairs * asked.steps)
    run = sides[0].train(given, training.ours_set(asked), function="train_in_parts")
    whole = [sum(turn) for turn in training.turns(run.seconds, asked.steps)]
    parts = {name: [sum(turn) for turn in training.turns(seconds, asked.steps)] for name, seconds in run.parts.items()}
    print("   " + ", ".join(f"{name} {sum(spent) / sum(whole):.0%}" for name, spent in parts.items()), flush=True)
    sums = [sum(spent) for spent in zip(*parts.values(), strict=True)]
    generated = sum(run.answers[WARM_UP:])
    ratios = [part / seconds for part, seconds in zip(sums, whole, strict=True)]
    return [rows.row((work, name, shape, "parts"), ratios, [generated / sum(whole), generated / sum(sums)], run.share)]


def _sampling(
    work: str, name: str, shape: str, sides: tuple[Any, Any], asked: argparse.Namespace, folder: Path
) -> list[Row]:
    """Against transformers' `generate`."""
    found = sampling.measured(folder, workload.shape_of(asked.model, shape), asked)
    ratios = [ours / peer for ours, peer in found["speeds"]]
    return [rows.row((work, name, shape, "transformers.generate"), ratios, _middle(found["speeds"]), found["share"])]


def _multiple_choice(
    work: str, name: str, shape: str, sides: tuple[Any, Any], asked: argparse.Namespace, folder: Path
) -> list[Row]:
    """Against lm-evaluation-harness."""
    lengths = None if shape == "letters" else workload.shape_of(asked.model, shape)
    found = evaluation.measured(folder, lengths, asked)
    ratios = [peer / ours for ours, peer in found["seconds"]]
    speeds = [found["tokens"] / seconds for seconds in _middle(found["seconds"])]
    return [rows.row((work, name, shape, "lm-evaluation-harness"), ratios, speeds)]


def _middle(pairs: Sequence[tuple[float, float]]) -> list[float]:
    return [statistics.median(side) for side in zip(*pairs, strict=True)]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, known, also in (
        ("work", WORKS, ()),
        ("model", MODELS, ("default", "qwen-0.5b")),
        ("vocabulary", VOCABULARIES, ("151936",)),
        ("shape", SHAPES, ("even",)),
        ("against", ("tuned", "default"), ()),
    ):
        parser.add_argument(f"--{name}", type=some((*known, *also)), default=list(known),
                            help=f"some of {','.join((*known, *also))} (default: {','.join(known)})")  # fmt: skip
    parser.add_argument("--pairs", type=above_zero, default=5, help="turns of each side, A B, B A, ... (default: 5)")
    parser.add_argument("--steps", type=above_zero, default=2, help="timed training steps of a turn (default: 2)")
    parser.add_argument("--questions", type=above_zero, default=64, help="of multiple choice (default: 64)")
    parser.add_argument("--threads", type=above_zero, default=os.cpu_count(), help="of each side (default: one a core)")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave peak memory out")
    training.add_arithmetic(parser)
    add_places(parser)
    return parser.parse_args(arguments)


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that say where results go."""
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--page", type=page_of, default=rows.PAGE, help="page whose table is renewed; empty for none")


if __name__ == "__main__":
    sys.exit(main())
