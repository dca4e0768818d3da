"""Training speed and memory against TRL, after a check that both sides compute the same.

    python benchmarks/training.py [--benchmark sft,dpo,grpo] [--shape even,long_prompt] [--model default] [--pairs 3]

Each benchmark runs the project's stage and TRL's trainer: the same random model, the same rows in the same batches, the
same hyperparameters. First a short run of both must give the same losses and gradient norms, else nothing is timed and
the exit code is 1. Then both run interleaved, each in its own process that waits while the other works.
docs/performance.md says what is equal, and describes the two settings of TRL.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import trl_settings
import workload
from argument_types import positive_int, subset_of
from interleaved_runs import SideProcess, run_interleaved
from workload import WARM_UP, ResultsDiffer

TOLERANCE: Final = {"float32": 1e-4, "bfloat16": 5e-2}  # relative, of losses and gradient norms
NUM_CHECKED_STEPS: Final = 3
TRAINING_BENCHMARKS: Final = ("sft", "reward_model", "dpo", "kto", "grpo", "grpo-free", "memory")
BATCH_SIZES: Final = {"sft": 16, "reward_model": 8, "dpo": 8, "kto": 16, "grpo": 8, "ppo": 32}  # rows, pairs, prompts
BATCH_GROWS_WITH_MODEL: Final = (
    "sft",
    "reward_model",
    "dpo",
)  # by model size; TRL's KTO needs all rows of a step in one micro-batch
CUDA_OPTIONS: Final = {"tokens_per_microbatch": 49152}  # options of the stage: a whole step in one micro-batch
EOS_EMBEDDING_SCALE: Final = 12.0  # grpo-free: responses end after about 30 of at most 64 tokens
SHAPES: Final = ("even", "long_answer", "long_prompt")
MEMORY_VOCAB_SIZES: Final = (4096, 32000)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    if importlib.util.find_spec("trl") is None:
        print('benchmarks/training.py needs TRL, which is not installed; run pip install -e ".[bench]"')
        return 2
    print(f"load average {os.getloadavg()[0]:.2f} before the start; timings need an idle machine", flush=True)
    found: dict[str, Any] = {
        "arguments": vars(args),
        "machine": _machine_info(),
        "versions": _package_versions(),
        "results": [],
    }
    sides = SideProcess("zhenlong", "run_zhenlong"), SideProcess("TRL", "run_trl")
    try:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            for benchmark in args.benchmark:
                measure = _compare_memory if benchmark == "memory" else compare_speed
                for shape in args.shape:
                    found["results"] += measure(benchmark, shape, sides, args, Path(folder))
    except ResultsDiffer as error:
        print(error)
        return 1
    found["load_after"] = os.getloadavg()
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(found, indent=1, default=str) + "\n")
    print(f"written to {args.json}")
    return 0


def compare_speed(
    benchmark: str, shape: str, sides: tuple[SideProcess, SideProcess], args: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Check, then time both sides interleaved; one result per setting of TRL."""
    stage = benchmark.removesuffix("-free")
    spec, parameters = prepare_run(benchmark, shape, args, folder, args.pairs * args.steps)
    settings = zhenlong_options(args)
    ours, theirs = sides
    tolerance = TOLERANCE[args.dtype]
    tuned = trl_settings.tuned_settings(stage, args.device, args.dtype)
    _check_equal_losses(benchmark, spec, (ours, settings), (theirs, tuned), tolerance)
    cost = _ms_per_generated_token if benchmark == "grpo-free" else _seconds_per_step
    unit = "ms per generated token" if benchmark == "grpo-free" else "s per step"
    results = []
    for name in args.against:
        given = settings, tuned if name == "tuned" else trl_settings.DEFAULT_SETTINGS[stage]
        runs = _timed_runs(spec, sides, given, args)
        for mine, other in runs:
            _check_same_work(benchmark, name, mine, other, tolerance)
        costs = [(a, b) for mine, other in runs for a, b in zip(cost(mine, args), cost(other, args), strict=True)]
        results.append(_print_result(benchmark, shape, name, costs, unit, parameters))
        if benchmark != "grpo-free":
            done = tokens_per_step(spec, [mine for mine, _ in runs])
            results[-1]["tokens_per_s"] = [done / statistics.median(part) for part in zip(*costs, strict=True)]
        results[-1]["share_of_matmul_rate"] = statistics.median(mine.matmul_fraction for mine, _ in runs)
        if args.memory and args.device == "cpu":
            short = replace(spec, steps=WARM_UP + args.steps)
            other, mine = (
                side.peak_memory(short, how).peak_memory_bytes for side, how in ((theirs, given[1]), (ours, given[0]))
            )
            results[-1]["peak_memory_ratio"] = other / mine
        elif args.memory:  # on a device it is measured in the timed runs
            mine, other = (
                statistics.median(one.peak_memory_bytes for one in of_side) for of_side in zip(*runs, strict=True)
            )
            results[-1]["peak_memory_ratio"] = other / mine
    return results


def _timed_runs(
    spec: Any,
    sides: tuple[SideProcess, SideProcess],
    settings: tuple[dict[str, Any], dict[str, Any]],
    args: argparse.Namespace,
) -> list[Any]:
    """Outcomes of both sides: on a CPU one interleaved run each; on a GPU, which cannot hold both, alternating runs."""
    if args.device == "cpu":
        spec = replace(spec, steps_per_turn=args.steps)
        return [run_interleaved(sides, ((spec, settings[0]), (spec, settings[1])), args.pairs)]
    spec = replace(spec, steps=WARM_UP + args.steps)
    runs = []
    for pair in range(args.pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        found = {side: sides[side].train(spec, settings[side]) for side in order}
        runs.append((found[0], found[1]))
    return runs


def zhenlong_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of this project's stages without a counterpart in TRL."""
    return {"dtype": args.dtype, "compile": args.compile} | (CUDA_OPTIONS if args.device == "cuda" else {})


def tokens_per_step(spec: Any, runs: list[Any]) -> float:
    """Mean tokens of a timed step: of complete sequences, or the generated ones."""
    if spec.stage in workload.STAGES_WITH_SAMPLING:
        return statistics.fmean(count for one in runs for count in one.generated_tokens[WARM_UP:])
    return (
        statistics.fmean(workload.count_tokens(row) for row in spec.rows_in_order()[WARM_UP * spec.batch_size :])
        * spec.batch_size
    )


def prepare_run(benchmark: str, shape: str, args: argparse.Namespace, folder: Path, steps: int) -> tuple[Any, int]:
    """Write rows and model of a run with warm-up and `steps` more steps; returns it and the number of parameters."""
    stage = benchmark.removesuffix("-free")
    lengths = workload.scaled_shape(args.model, shape)
    place = Path(tempfile.mkdtemp(prefix=benchmark, dir=folder))
    model, parameters = workload.cached_model(
        folder,
        args.model,
        args.vocab_size,
        args.device,
        reward_head=benchmark == "reward_model",
        unreachable_eos=benchmark in workload.STAGES_WITH_SAMPLING,
        eos_embedding_scale=EOS_EMBEDDING_SCALE if benchmark == "grpo-free" else 1.0,
    )
    steps = max(WARM_UP + steps, NUM_CHECKED_STEPS)
    size = workload.MODEL_SIZES[args.model]
    batch_size = BATCH_SIZES[stage] * (size.length_scale if stage in BATCH_GROWS_WITH_MODEL else 1)
    workload.write_rows(place, workload.make_rows(stage, batch_size * steps, 0, args.vocab_size, lengths), 0)
    spec = workload.RunSpec(stage, str(place), steps, batch_size, args.threads, size.lr, str(model), args.device,
                         max_tokens=lengths.middle_lengths[1])  # fmt: skip
    return spec, parameters


def _check_equal_losses(
    benchmark: str,
    spec: Any,
    ours: tuple[SideProcess, dict[str, Any]],
    theirs: tuple[SideProcess, dict[str, Any]],
    tolerance: float,
) -> None:
    """Check for equal losses and gradient norms over the first steps; for GRPO on the rollouts sampled by TRL."""
    replay = str(Path(spec.folder) / "rollouts.json") if spec.stage == "grpo" else ""
    logged = replace(spec, steps=NUM_CHECKED_STEPS, log_every_step=True, rollouts_file=replay)
    other, mine = (side.train(logged, settings) for side, settings in (theirs, ours))
    worst = {}
    for name in ("losses", "grad_norms"):
        pairs = list(zip(getattr(mine, name), getattr(other, name), strict=True))[:NUM_CHECKED_STEPS]
        worst[name] = max(abs(a - b) / max(abs(b), 1e-2) for a, b in pairs)
        if worst[name] > tolerance:
            raise ResultsDiffer(f"{benchmark}: {name} differ between zhenlong and TRL, {pairs}; nothing was timed")
    print(
        f"{benchmark}: equal over {NUM_CHECKED_STEPS} steps; largest relative difference of losses "
        f"{worst['losses']:.1e}, of gradient norms {worst['grad_norms']:.1e}",
        flush=True,
    )


def _check_same_work(benchmark: str, name: str, mine: Any, other: Any, tolerance: float) -> None:
    """Check that the timed runs did the same work: equal mean loss, or equal numbers of sampled tokens."""
    if benchmark == "grpo":
        if set(mine.generated_tokens) != set(other.generated_tokens):
            raise ResultsDiffer(
                f"{benchmark}: {set(mine.generated_tokens)} and {set(other.generated_tokens)} tokens were sampled "
                "in a step"
            )
    elif benchmark != "grpo-free" and name == "tuned":
        a, b = statistics.fmean(mine.losses), other.losses[0]
        if abs(a - b) > tolerance * abs(b):
            raise ResultsDiffer(f"{benchmark}: the mean loss of a timed run was {a} with zhenlong and {b} with TRL")


def _seconds_per_step(outcome: Any, args: argparse.Namespace) -> list[float]:
    """Median seconds per step of each turn."""
    return [statistics.median(turn) for turn in split_into_turns(outcome.seconds, args.steps)]


def _ms_per_generated_token(outcome: Any, args: argparse.Namespace) -> list[float]:
    parts = zip(
        split_into_turns(outcome.seconds, args.steps),
        split_into_turns(outcome.generated_tokens, args.steps),
        strict=True,
    )
    return [1e3 * sum(seconds) / sum(answers) for seconds, answers in parts]


def split_into_turns(numbers: Sequence[float], steps: int) -> list[Sequence[float]]:
    """A run's values per step, split into turns of `steps` steps, without the warm-up."""
    return [numbers[begin : begin + steps] for begin in range(WARM_UP, len(numbers), steps)]


def _print_result(
    benchmark: str, shape: str, against: str, costs: list[tuple[float, float]], unit: str, parameters: int
) -> dict[str, Any]:
    ratios = [other / mine for mine, other in costs]
    median_ratio = statistics.median(ratios)
    mine, other = (statistics.median(part) for part in zip(*costs, strict=True))
    print(
        f"{benchmark:>10} {shape:<12}against TRL {against:<8}{median_ratio:5.2f}x  "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)   {mine:.3f} and {other:.3f} {unit}",
        flush=True,
    )
    return {
        "kind": benchmark,
        "shape": shape,
        "against": against,
        "parameters": parameters,
        "unit": unit,
        "zhenlong": [a for a, _ in costs],
        "trl": [b for _, b in costs],
        "ratios": ratios,
        "median_ratio": median_ratio,
    }


def _compare_memory(
    _: str, shape: str, sides: tuple[SideProcess, SideProcess], args: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Peak resident memory of a few DPO steps minus that of the libraries, each side in a fresh process."""
    results = []
    for vocab_size in MEMORY_VOCAB_SIZES:
        place = folder / f"memory-{shape}-{vocab_size}"
        place.mkdir()
        model, parameters = workload.cached_model(folder, args.model, vocab_size)
        lengths = workload.SHAPES[shape]
        workload.write_rows(
            place, workload.make_rows("dpo", BATCH_SIZES["dpo"] * NUM_CHECKED_STEPS, 0, vocab_size, lengths), 0
        )
        lr = workload.MODEL_SIZES[args.model].lr
        spec = workload.RunSpec("dpo", str(place), NUM_CHECKED_STEPS, BATCH_SIZES["dpo"], args.threads, lr, str(model))
        settings = {"dtype": "float32"}, trl_settings.tuned_settings("dpo", "cpu", "float32")
        peaks = [
            side.peak_memory(spec, given).peak_memory_bytes / 2**20 for side, given in zip(sides, settings, strict=True)
        ]
        print(
            f"    memory of DPO, {shape}, vocabulary {vocab_size:>5}: {peaks[0]:.0f} MiB and {peaks[1]:.0f} MiB "
            f"with TRL, {peaks[1] / peaks[0]:.2f}x less",
            flush=True,
        )
        results.append(
            {
                "kind": "memory",
                "shape": shape,
                "vocabulary": vocab_size,
                "parameters": parameters,
                "unit": "MiB beyond libraries",
                "zhenlong": peaks[0],
                "trl": peaks[1],
            }
        )
    return results


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--benchmark",
        type=subset_of(TRAINING_BENCHMARKS),
        default=list(TRAINING_BENCHMARKS),
        help=f"some of {','.join(TRAINING_BENCHMARKS)} (default: all)",
    )
    parser.add_argument("--shape", type=subset_of(SHAPES), default=list(SHAPES), help="lengths of prompt and responses "
                        f"(workload.py): some of {','.join(SHAPES)} (default: all)")  # fmt: skip
    parser.add_argument("--model", choices=("small", "default", "medium"), default="default",
                        help="about 1.4, 7 or 28 million parameters")  # fmt: skip
    parser.add_argument("--pairs", type=positive_int, default=3, help="turns per side, A B, B A, ... (default: 3)")
    parser.add_argument("--steps", type=positive_int, default=4, help="timed steps per turn (default: 4)")
    parser.add_argument("--threads", type=positive_int, default=2, help="threads per side (default: 2)")
    parser.add_argument("--against", type=lambda text: text.split(","), default=["tuned", "default"],
                        help="settings of TRL: tuned, default or both (default: tuned,default)")  # fmt: skip
    add_device_options(parser)
    parser.add_argument("--vocab_size", type=int, default=4096, help="vocabulary size (default: 4096)")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--json", type=Path, default=here / "results" / "training.json", help="results file")
    return parser.parse_args(argv)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for device and precision of both sides."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of both sides (default: cpu)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the layers of this project's side")
    parser.add_argument("--dtype", choices=tuple(TOLERANCE), default="float32",
                        help="dtype of both sides, except TRL at its defaults (default: float32)")  # fmt: skip


def _machine_info() -> dict[str, Any]:
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def _package_versions() -> dict[str, str]:
    return {name: version(name) for name in ("zhenlong", "torch", "transformers", "trl", "accelerate")}


if __name__ == "__main__":
    sys.exit(main())
