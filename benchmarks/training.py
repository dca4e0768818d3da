"""Training speed and memory against TRL, with proof that both sides compute the same.

    python benchmarks/training.py [--what sft,dpo,grpo] [--shape even,long_prompt] [--model default] [--pairs 3]

Each kind of training runs here through the project's stage and there through TRL's trainer: the same random model, the
same rows in the same batches, the same hyperparameters. First a short run of both must give the same losses and
gradient norms, else nothing is timed and the exit code is 1. Then both run in turn, each in a process of its own that
waits while the other works. See benchmarks/README.md for what is equal, and for the two ways in which TRL is set.
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
from arguments import above_zero, some
from turns import Side, in_turn
from workload import WARM_UP, Unequal

TOLERANCE: Final = {"float32": 1e-4, "bfloat16": 5e-2}  # relative, of losses and gradient norms
CHECKED_STEPS: Final = 3
KINDS: Final = ("sft", "reward_model", "dpo", "kto", "grpo", "grpo-free", "memory")
BATCH: Final = {"sft": 16, "reward_model": 8, "dpo": 8, "kto": 16, "grpo": 8, "ppo": 32}  # rows, pairs, prompts
GROWING: Final = ("sft", "reward_model", "dpo")  # with the model's size; TRL's KTO has to take a step's rows at once
ON_CUDA: Final = {"tokens_per_microbatch": 49152}  # options of the stage: a step at once
END_SCALE: Final = 12.0  # ends sampled answers of the free run after some 30 of at most 64 tokens
SHAPES: Final = ("even", "long_answer", "long_prompt")
MEMORY_VOCABULARIES: Final = (4096, 32000)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    if importlib.util.find_spec("trl") is None:
        print('benchmarks/training.py compares with TRL, which is not installed: pip install -e ".[bench]"')
        return 2
    print(f"load average {os.getloadavg()[0]:.2f} before the start; the figures need a quiet machine", flush=True)
    found: dict[str, Any] = {"arguments": vars(asked), "machine": _machine(), "versions": _versions(), "results": []}
    sides = Side("zhenlong", "zhenlong_side"), Side("TRL", "trl_side")
    try:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            for kind in asked.what:
                measure = _memory if kind == "memory" else speed
                for shape in asked.shape:
                    found["results"] += measure(kind, shape, sides, asked, Path(folder))
    except Unequal as error:
        print(error)
        return 1
    found["load_after"] = os.getloadavg()
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(found, indent=1, default=str) + "\n")
    print(f"written to {asked.json}")
    return 0


def speed(
    kind: str, shape: str, sides: tuple[Side, Side], asked: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Check, then time both sides in turn; one result for each way in which TRL is set."""
    what = kind.removesuffix("-free")
    work, parameters = prepare(kind, shape, asked, folder, asked.pairs * asked.steps)
    settings = ours_set(asked)
    ours, theirs = sides
    tolerance = TOLERANCE[asked.dtype]
    tuned = trl_settings.tuned(what, asked.device, asked.dtype)
    _check(kind, work, (ours, settings), (theirs, tuned), tolerance)
    cost = _per_answer_token if kind == "grpo-free" else _per_step
    unit = "ms per generated token" if kind == "grpo-free" else "s per step"
    results = []
    for name in asked.against:
        given = settings, tuned if name == "tuned" else trl_settings.DEFAULT[what]
        runs = _runs(work, sides, given, asked)
        for mine, other in runs:
            _same_work(kind, name, mine, other, tolerance)
        costs = [(a, b) for mine, other in runs for a, b in zip(cost(mine, asked), cost(other, asked), strict=True)]
        results.append(_result(kind, shape, name, costs, unit, parameters))
        if kind != "grpo-free":
            done = tokens_of_a_step(work, [mine for mine, _ in runs])
            results[-1]["tokens_per_s"] = [done / statistics.median(part) for part in zip(*costs, strict=True)]
        results[-1]["share_of_matmul_rate"] = statistics.median(mine.share for mine, _ in runs)
        if asked.memory and asked.device == "cpu":
            short = replace(work, steps=WARM_UP + asked.steps)
            other, mine = (side.peak_memory(short, how).peak for side, how in ((theirs, given[1]), (ours, given[0])))
            results[-1]["peak_memory_ratio"] = other / mine
        elif asked.memory:  # the device tells it within the timed runs
            mine, other = (statistics.median(one.peak for one in of_side) for of_side in zip(*runs, strict=True))
            results[-1]["peak_memory_ratio"] = other / mine
    return results


def _runs(
    work: Any, sides: tuple[Side, Side], settings: tuple[dict[str, Any], dict[str, Any]], asked: argparse.Namespace
) -> list[Any]:
    """Outcomes of both sides: on a CPU of one run each, in turns; on a GPU, which cannot hold both, of runs in turn."""
    if asked.device == "cpu":
        work = replace(work, turn=asked.steps)
        return [in_turn(sides, ((work, settings[0]), (work, settings[1])), asked.pairs)]
    work = replace(work, steps=WARM_UP + asked.steps)
    runs = []
    for pair in range(asked.pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        found = {side: sides[side].train(work, settings[side]) for side in order}
        runs.append((found[0], found[1]))
    return runs


def ours_set(asked: argparse.Namespace) -> dict[str, Any]:
    """Options of this project's stages that no trainer of TRL has."""
    return {"dtype": asked.dtype, "compile": asked.compile} | (ON_CUDA if asked.device == "cuda" else {})


def tokens_of_a_step(work: Any, runs: list[Any]) -> float:
    """Mean tokens of a timed step: of whole sequences, or those generated."""
    if work.what in workload.ROLLING:
        return statistics.fmean(count for one in runs for count in one.answers[WARM_UP:])
    return statistics.fmean(workload.tokens(row) for row in work.plan()[WARM_UP * work.batch :]) * work.batch


def prepare(kind: str, shape: str, asked: argparse.Namespace, folder: Path, steps: int) -> tuple[Any, int]:
    """A run of the warm-up and `steps` more steps, its rows and model written; and the model's number of parameters."""
    what = kind.removesuffix("-free")
    lengths = workload.shape_of(asked.model, shape)
    place = Path(tempfile.mkdtemp(prefix=kind, dir=folder))
    model, parameters = workload.kept_model(
        folder,
        asked.model,
        asked.vocabulary,
        asked.device,
        scores=kind == "reward_model",
        endless=kind in workload.ROLLING,
        end_scale=END_SCALE if kind == "grpo-free" else 1.0,
    )
    steps = max(WARM_UP + steps, CHECKED_STEPS)
    size = workload.SIZES[asked.model]
    batch = BATCH[what] * (size.times if what in GROWING else 1)
    workload.write_rows(place, workload.make_rows(what, batch * steps, 0, asked.vocabulary, lengths), 0)
    work = workload.Work(what, str(place), steps, batch, asked.threads, size.lr, str(model), asked.device,
                         new_tokens=lengths.middle[1])  # fmt: skip
    return work, parameters


def _check(
    kind: str, work: Any, ours: tuple[Side, dict[str, Any]], theirs: tuple[Side, dict[str, Any]], tolerance: float
) -> None:
    """The same losses and gradient norms over the first steps; for GRPO on the rollouts that TRL sampled."""
    replay = str(Path(work.folder) / "rollouts.json") if work.what == "grpo" else ""
    logged = replace(work, steps=CHECKED_STEPS, logged=True, replay=replay)
    other, mine = (side.train(logged, settings) for side, settings in (theirs, ours))
    worst = {}
    for name in ("losses", "norms"):
        pairs = list(zip(getattr(mine, name), getattr(other, name), strict=True))[:CHECKED_STEPS]
        worst[name] = max(abs(a - b) / max(abs(b), 1e-2) for a, b in pairs)
        if worst[name] > tolerance:
            raise Unequal(f"{kind}: {name} differ between zhenlong and TRL, {pairs}; nothing was timed")
    print(
        f"{kind}: equal over {CHECKED_STEPS} steps; largest relative difference of losses {worst['losses']:.1e}, "
        f"of gradient norms {worst['norms']:.1e}",
        flush=True,
    )


def _same_work(kind: str, name: str, mine: Any, other: Any, tolerance: float) -> None:
    """The timed runs did what the checked ones did: the mean loss, or the tokens sampled, are the same."""
    if kind == "grpo":
        if set(mine.answers) != set(other.answers):
            raise Unequal(f"{kind}: {set(mine.answers)} and {set(other.answers)} tokens were sampled in a step")
    elif kind != "grpo-free" and name == "tuned":
        a, b = statistics.fmean(mine.losses), other.losses[0]
        if abs(a - b) > tolerance * abs(b):
            raise Unequal(f"{kind}: the mean loss of a timed run was {a} with zhenlong and {b} with TRL")


def _per_step(outcome: Any, asked: argparse.Namespace) -> list[float]:
    """Seconds, the median of each turn's steps."""
    return [statistics.median(turn) for turn in turns(outcome.seconds, asked.steps)]


def _per_answer_token(outcome: Any, asked: argparse.Namespace) -> list[float]:
    parts = zip(turns(outcome.seconds, asked.steps), turns(outcome.answers, asked.steps), strict=True)
    return [1e3 * sum(seconds) / sum(answers) for seconds, answers in parts]


def turns(numbers: Sequence[float], steps: int) -> list[Sequence[float]]:
    """A run's numbers, one a step, by turns of so many steps, without the warm-up."""
    return [numbers[begin : begin + steps] for begin in range(WARM_UP, len(numbers), steps)]


def _result(
    kind: str, shape: str, against: str, costs: list[tuple[float, float]], unit: str, parameters: int
) -> dict[str, Any]:
    ratios = [other / mine for mine, other in costs]
    middle = statistics.median(ratios)
    mine, other = (statistics.median(part) for part in zip(*costs, strict=True))
    print(
        f"{kind:>10} {shape:<12}against TRL {against:<8}{middle:5.2f}x  ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} pairs)   {mine:.3f} and {other:.3f} {unit}",
        flush=True,
    )
    return {
        "kind": kind,
        "shape": shape,
        "against": against,
        "parameters": parameters,
        "unit": unit,
        "zhenlong": [a for a, _ in costs],
        "trl": [b for _, b in costs],
        "ratios": ratios,
        "median_ratio": middle,
    }


def _memory(
    _: str, shape: str, sides: tuple[Side, Side], asked: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Peak resident memory of a few DPO steps beyond that of the libraries, each side in a fresh process."""
    results = []
    for vocabulary in MEMORY_VOCABULARIES:
        place = folder / f"memory-{shape}-{vocabulary}"
        place.mkdir()
        model, parameters = workload.kept_model(folder, asked.model, vocabulary)
        lengths = workload.SHAPES[shape]
        workload.write_rows(place, workload.make_rows("dpo", BATCH["dpo"] * CHECKED_STEPS, 0, vocabulary, lengths), 0)
        lr = workload.SIZES[asked.model].lr
        work = workload.Work("dpo", str(place), CHECKED_STEPS, BATCH["dpo"], asked.threads, lr, str(model))
        settings = {"dtype": "float32"}, trl_settings.tuned("dpo", "cpu", "float32")
        peaks = [side.peak_memory(work, given).peak / 2**20 for side, given in zip(sides, settings, strict=True)]
        print(
            f"    memory of DPO, {shape}, vocabulary {vocabulary:>5}: {peaks[0]:.0f} MiB and {peaks[1]:.0f} MiB "
            f"with TRL, {peaks[1] / peaks[0]:.2f}x less",
            flush=True,
        )
        results.append(
            {
                "kind": "memory",
                "shape": shape,
                "vocabulary": vocabulary,
                "parameters": parameters,
                "unit": "MiB beyond libraries",
                "zhenlong": peaks[0],
                "trl": peaks[1],
            }
        )
    return results


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--what", type=some(KINDS), default=list(KINDS), help=f"some of {','.join(KINDS)} (default: all)"
    )
    parser.add_argument("--shape", type=some(SHAPES), default=list(SHAPES), help="lengths of prompts and answers "
                        f"(workload.py): some of {','.join(SHAPES)} (default: all)")  # fmt: skip
    parser.add_argument("--model", choices=("small", "default", "medium"), default="default",
                        help="about 1.4, 7 or 28 million parameters")  # fmt: skip
    parser.add_argument("--pairs", type=above_zero, default=3, help="turns of each side, A B, B A, ... (default: 3)")
    parser.add_argument("--steps", type=above_zero, default=4, help="timed steps of a turn (default: 4)")
    parser.add_argument("--threads", type=above_zero, default=2, help="threads of each side (default: 2)")
    parser.add_argument("--against", type=lambda text: text.split(","), default=["tuned", "default"],
                        help="how TRL is set: tuned, default or both (default: tuned,default)")  # fmt: skip
    add_arithmetic(parser)
    parser.add_argument("--vocabulary", type=int, default=4096, help="tokens of the vocabulary (default: 4096)")
    parser.add_argument("--memory", action="store_true", help="the peak memory of each kind as well")
    parser.add_argument("--json", type=Path, default=here / "results" / "training.json", help="file of the results")
    return parser.parse_args(arguments)


def add_arithmetic(parser: argparse.ArgumentParser) -> None:
    """The options that say where both sides compute, and how exactly."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both sides (default: cpu)")
    parser.add_argument("--compile", action="store_true", help="the layers of this project's side, by torch.compile")
    parser.add_argument("--dtype", choices=tuple(TOLERANCE), default="float32",
                        help="precision of both sides, TRL at its defaults excepted (default: float32)")  # fmt: skip


def _machine() -> dict[str, Any]:
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("zhenlong", "torch", "transformers", "trl", "accelerate")}


if __name__ == "__main__":
    sys.exit(main())
