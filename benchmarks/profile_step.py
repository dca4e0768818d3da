"""Profile of a training step: time by category of operators, and the rest for Python and dispatch.

    .venv/bin/python benchmarks/profile_step.py [--benchmark sft,dpo] [--model small] [--vocab_size 4096] [--label
    before]

Each stage of `make bench` runs on its workloads: a warm-up, `--steps` timed steps, `--steps` steps under torch's
profiler. The fractions are from the profiled steps; the seconds from the others, without profiler overhead. Writes
`results/profile-<date>-<machine>[-<label>].json` and the table of docs/performance.md; `--before` puts an earlier
file's rows above the new ones. To profile an earlier commit on the same workloads: `git worktree add ../old <commit>`
and run this there with `PYTHONPATH=src`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final
from unittest.mock import patch

import bench
import evaluation
import results_table
import run_zhenlong
import torch
import training
import workload
from argument_types import positive_int, subset_of
from operator_categories import FUNCTION_SPANS, SAMPLING_SPANS, SPAN_PREFIX, profile_table, time_fractions
from torch.profiler import ProfilerActivity, profile, record_function
from workload import WARM_UP

import zhenlong
from zhenlong.loop import Run
from zhenlong.loop.ledger import matmul_rate
from zhenlong.models import load_model
from zhenlong.sampling import SamplingParams, TorchSampler

MARKERS: Final = "<!-- table of profile_step.py: begin -->", "<!-- table of profile_step.py: end -->"
PACKAGES: Final = ("zhenlong", "torch", "transformers")


class StepProfiler:
    """Times `steps` steps after the warm-up, then profiles as many."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.total_steps = WARM_UP + 2 * steps
        self._step_starts: list[float] = []  # start times from the first step after the warm-up to the first profiled
        self._profiled_seconds = 0.0  # of the profiled steps
        self._profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)

    def profiled(self, steps: Iterator[int]) -> Iterator[int]:
        """The same steps, timed and profiled."""
        first = WARM_UP + self.steps + 1
        for step in steps:
            if WARM_UP < step <= first:
                self._step_starts.append(time.perf_counter())
            if step == first:
                self._profiler.start()
                started = time.perf_counter()
            yield step
            if step == self.total_steps:
                self._profiled_seconds = time.perf_counter() - started
                self._profiler.stop()

    def measurements(self) -> dict[str, Any]:
        """The measurements, as the start of a results row."""
        seconds_per_step = statistics.median(b - a for a, b in pairwise(self._step_starts))
        fractions, operators = time_fractions(self._profiler.events(), 1e6 * self._profiled_seconds)
        slower = self._profiled_seconds / self.steps / seconds_per_step - 1
        return {
            "milliseconds": 1e3 * seconds_per_step,
            "slower_with_profiler": slower,
            "shares": fractions,
            "operators": operators,
        }


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    torch.set_num_threads(args.threads)
    machine = results_table.machine_info(args.threads)
    matmul_rate(torch.device("cpu"), torch.float32)  # measured once per process, not within a step
    print(f"load average {machine['load_before']:.2f} before the start", flush=True)
    found: dict[str, Any] = {
        "machine": machine,
        "versions": results_table.package_versions(PACKAGES),
        "commit": _commit(),
        "rows": [],
    }
    path = args.output / f"profile-{results_table.results_file_stem(machine)}{args.label and '-' + args.label}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for model in args.model:
        for vocab_size in map(int, args.vocab_size):
            for benchmark in args.benchmark:
                for shape in args.shape:
                    found["rows"].append(_profile_row(benchmark, model, vocab_size, shape, args))
                    path.write_text(json.dumps(found, indent=1) + "\n")
    before = json.loads(args.before.read_text())["rows"] if args.before else []
    table_text = f"{results_table.provenance(found, path)}\n\n{profile_table(before, found['rows'])}"
    print(f"\n{table_text}")
    if args.page:
        results_table.replace_between_markers(args.page, MARKERS, table_text)
    return 0


def _profile_row(benchmark: str, model: str, vocab_size: int, shape: str, args: argparse.Namespace) -> dict[str, Any]:
    profiler = StepProfiler(args.steps)
    stage = functools.partial(_profile_stage, benchmark, args.dtype)
    run = {"sampling": _profile_sampling, "multiple_choice": _profile_multiple_choice}.get(benchmark, stage)
    half = "-bf16" * (run is stage and args.dtype == "bfloat16")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="profile-") as folder, record_spans(FUNCTION_SPANS):
        run(profiler, model, vocab_size, shape, args.threads, Path(folder))
    row = {
        "work": benchmark,
        "model": f"{model}-{vocab_size // 1000}k{half}",
        "shape": shape,
        **profiler.measurements(),
    }
    spent = time.perf_counter() - started
    print(
        f"{benchmark}, {row['model']}, {shape}: {row['milliseconds']:.0f} ms a step, "
        f"{row['slower_with_profiler']:+.0%} with the profiler ({spent:.0f} s in all)",
        flush=True,
    )
    return row


def _profile_stage(
    stage: str, dtype: str, profiler: StepProfiler, model: str, vocab_size: int, shape: str, threads: int, folder: Path
) -> None:
    """Profile the steps of a stage, by wrapping `Run.steps`."""
    settings = argparse.Namespace(model=model, vocab_size=vocab_size, threads=threads, device="cpu")
    spec, _ = training.prepare_run(stage, shape, settings, folder, 2 * profiler.steps)
    steps = Run.steps
    with patch.object(Run, "steps", lambda run, total: profiler.profiled(steps(run, total))):
        run_zhenlong.train(spec, {"dtype": dtype})


def _profile_sampling(
    profiler: StepProfiler, model: str, vocab_size: int, shape: str, threads: int, folder: Path
) -> None:
    """8 prompts x 8 samples per step, as in `sampling.measure_sampling`."""
    workload.make_model(folder, workload.MODEL_SIZES[model], vocab_size, unreachable_eos=True)
    sampler = TorchSampler(*load_model(str(folder / "model"), device="cpu"))
    length, max_tokens = workload.scaled_shape(model, shape).middle_lengths
    torch.manual_seed(0)
    prompts = torch.randint(1, vocab_size, (8, length)).tolist()
    with record_spans(SAMPLING_SPANS), patch.object(TorchSampler, "sample", TorchSampler.sample.__wrapped__):
        for step in profiler.profiled(iter(range(1, profiler.total_steps + 1))):
            sampler.sample(prompts, SamplingParams(max_tokens=max_tokens, seed=step), 8)


def _profile_multiple_choice(
    profiler: StepProfiler, model: str, vocab_size: int, shape: str, threads: int, folder: Path
) -> None:
    """All questions per step, as in `evaluation.measure_multiple_choice`, each time with an empty cache."""
    evaluation_workload, *_ = evaluation.prepare_multiple_choice(folder, model, vocab_size, workload.SHAPES[shape], 64)
    for step in profiler.profiled(iter(range(1, profiler.total_steps + 1))):
        evaluation.evaluate_with_zhenlong(evaluation_workload, folder / f"{step}.sqlite")


@contextmanager
def record_spans(categories: dict[str, str]) -> Iterator[None]:
    """Within this context the profiler records calls of these functions as spans named after their category."""
    with ExitStack() as patched:
        for place, column in categories.items():
            patched.enter_context(patch(place, _with_span(resolve_name(place), f"{SPAN_PREFIX}{column}")))
        yield


def _with_span(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*given: Any, **settings: Any) -> Any:
        with record_function(name):
            return function(*given, **settings)

    return run


def _commit() -> str:
    """The commit of the measured code, with a + if there are uncommitted changes."""
    git = ("git", "-C", str(Path(zhenlong.__file__).parent))
    described = subprocess.run(
        [*git, "describe", "--always", "--dirty=+", "--exclude=*"], capture_output=True, text=True
    )
    return described.stdout.strip()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, known, also in (("benchmark", bench.BENCHMARKS, ()), ("model", bench.MODELS, ("default",)),
                              ("vocab_size", bench.VOCAB_SIZES, ()), ("shape", bench.SHAPES, ("even",))):  # fmt: skip
        parser.add_argument(f"--{name}", type=subset_of((*known, *also)), default=list(known),
                            help=f"some of {','.join((*known, *also))} (default: {','.join(known)})")  # fmt: skip
    parser.add_argument(
        "--steps", type=positive_int, default=3, help="number of timed and of profiled steps (default: 3)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="dtype of matrix multiplications in training",
    )
    parser.add_argument("--threads", type=positive_int, default=os.cpu_count(), help="threads (default: one per core)")
    parser.add_argument("--label", default="", help="suffix of the results file's name")
    parser.add_argument("--before", type=Path, help="an earlier results file, for the table")
    bench.add_output_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
