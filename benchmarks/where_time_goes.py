"""Where the time of a step goes: operators by kind, and what is left for Python and dispatch.

    .venv/bin/python benchmarks/where_time_goes.py [--work sft,dpo] [--model small] [--vocabulary 4096] [--label before]

Each stage of `make bench` runs on its workloads: a warm-up, `--steps` steps with a clock alone, `--steps` under
torch's profiler. The shares are of the profiled steps; the seconds are of the others, so they hold no profiler. Writes
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
import rows
import torch
import training
import workload
import zhenlong_side
from arguments import above_zero, some
from operators import OF_SAMPLING, SPAN, SPANS, shares, table
from torch.profiler import ProfilerActivity, profile, record_function
from workload import WARM_UP

import zhenlong
from zhenlong.loop import Run
from zhenlong.loop.ledger import matmul_rate
from zhenlong.models import load_model
from zhenlong.sampling import Sampling, TorchSampler

MARKERS: Final = "<!-- table of where_time_goes.py: begin -->", "<!-- table of where_time_goes.py: end -->"
PACKAGES: Final = ("zhenlong", "torch", "transformers")


class Watch:
    """Times `steps` steps after the warm-up, then profiles as many."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.total = WARM_UP + 2 * steps
        self._begun: list[float] = []  # when steps began, from the first after the warm-up to the first profiled
        self._wall = 0.0  # of the profiled steps
        self._profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)

    def over(self, steps: Iterator[int]) -> Iterator[int]:
        """The same steps, watched."""
        first = WARM_UP + self.steps + 1
        for step in steps:
            if WARM_UP < step <= first:
                self._begun.append(time.perf_counter())
            if step == first:
                self._profiler.start()
                started = time.perf_counter()
            yield step
            if step == self.total:
                self._wall = time.perf_counter() - started
                self._profiler.stop()

    def found(self) -> dict[str, Any]:
        """What was seen, as a row of the results begins."""
        plain = statistics.median(b - a for a, b in pairwise(self._begun))
        parts, operators = shares(self._profiler.events(), 1e6 * self._wall)
        slower = self._wall / self.steps / plain - 1
        return {"milliseconds": 1e3 * plain, "slower_with_profiler": slower, "shares": parts, "operators": operators}


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    torch.set_num_threads(asked.threads)
    machine = rows.machine(asked.threads)
    matmul_rate(torch.device("cpu"), torch.float32)  # measured once a process, and not within a step
    print(f"load average {machine['load_before']:.2f} before the start", flush=True)
    found: dict[str, Any] = {"machine": machine, "versions": rows.versions(PACKAGES), "commit": _commit(), "rows": []}
    path = asked.output / f"profile-{rows.today(machine)}{asked.label and '-' + asked.label}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for model in asked.model:
        for vocabulary in map(int, asked.vocabulary):
            for work in asked.work:
                for shape in asked.shape:
                    found["rows"].append(_row(work, model, vocabulary, shape, asked))
                    path.write_text(json.dumps(found, indent=1) + "\n")
    before = json.loads(asked.before.read_text())["rows"] if asked.before else []
    told = f"{rows.origin(found, path)}\n\n{table(before, found['rows'])}"
    print(f"\n{told}")
    if asked.page:
        rows.renew(asked.page, MARKERS, told)
    return 0


def _row(work: str, model: str, vocabulary: int, shape: str, asked: argparse.Namespace) -> dict[str, Any]:
    watch = Watch(asked.steps)
    stage = functools.partial(_stage, work, asked.dtype)
    run = {"sampling": _sampling, "multiple_choice": _multiple_choice}.get(work, stage)
    half = "-bf16" * (run is stage and asked.dtype == "bfloat16")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="profile-") as folder, spans(SPANS):
        run(watch, model, vocabulary, shape, asked.threads, Path(folder))
    row = {"work": work, "model": f"{model}-{vocabulary // 1000}k{half}", "shape": shape, **watch.found()}
    spent = time.perf_counter() - started
    print(
        f"{work}, {row['model']}, {shape}: {row['milliseconds']:.0f} ms a step, "
        f"{row['slower_with_profiler']:+.0%} with the profiler ({spent:.0f} s in all)",
        flush=True,
    )
    return row


def _stage(
    work: str, dtype: str, watch: Watch, model: str, vocabulary: int, shape: str, threads: int, folder: Path
) -> None:
    """A stage's own steps, from its loop's `steps`."""
    settings = argparse.Namespace(model=model, vocabulary=vocabulary, threads=threads, device="cpu")
    given, _ = training.prepare(work, shape, settings, folder, 2 * watch.steps)
    steps = Run.steps
    with patch.object(Run, "steps", lambda run, total: watch.over(steps(run, total))):
        zhenlong_side.train(given, {"dtype": dtype})


def _sampling(watch: Watch, model: str, vocabulary: int, shape: str, threads: int, folder: Path) -> None:
    """8 prompts x 8 samples a step, as in `sampling.measured`."""
    workload.make_model(folder, workload.SIZES[model], vocabulary, endless=True)
    sampler = TorchSampler(*load_model(str(folder / "model"), device="cpu"))
    length, new = workload.shape_of(model, shape).middle
    torch.manual_seed(0)
    prompts = torch.randint(1, vocabulary, (8, length)).tolist()
    with spans(OF_SAMPLING), patch.object(TorchSampler, "sample", TorchSampler.sample.__wrapped__):
        for step in watch.over(iter(range(1, watch.total + 1))):
            sampler.sample(prompts, Sampling(max_tokens=new, seed=step), 8)


def _multiple_choice(watch: Watch, model: str, vocabulary: int, shape: str, threads: int, folder: Path) -> None:
    """All questions a step, as in `evaluation.measured`, each time with an empty cache."""
    asked, *_ = evaluation.prepared(folder, model, vocabulary, workload.SHAPES[shape], 64)
    for step in watch.over(iter(range(1, watch.total + 1))):
        evaluation.ours(asked, folder / f"{step}.sqlite")


@contextmanager
def spans(named: dict[str, str]) -> Iterator[None]:
    """Calls of the functions in here are seen by the profiler, under the names of their columns."""
    with ExitStack() as patched:
        for place, column in named.items():
            patched.enter_context(patch(place, _seen(resolve_name(place), f"{SPAN}{column}")))
        yield


def _seen(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*given: Any, **settings: Any) -> Any:
        with record_function(name):
            return function(*given, **settings)

    return run


def _commit() -> str:
    """The commit of the code that is measured, with a + where it was changed."""
    git = ("git", "-C", str(Path(zhenlong.__file__).parent))
    told = subprocess.run([*git, "describe", "--always", "--dirty=+", "--exclude=*"], capture_output=True, text=True)
    return told.stdout.strip()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, known, also in (("work", bench.WORKS, ()), ("model", bench.MODELS, ("default",)),
                              ("vocabulary", bench.VOCABULARIES, ()), ("shape", bench.SHAPES, ("even",))):  # fmt: skip
        parser.add_argument(f"--{name}", type=some((*known, *also)), default=list(known),
                            help=f"some of {','.join((*known, *also))} (default: {','.join(known)})")  # fmt: skip
    parser.add_argument("--steps", type=above_zero, default=3, help="timed steps, and as many profiled (default: 3)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of products in training")
    parser.add_argument("--threads", type=above_zero, default=os.cpu_count(), help="default: one a core")
    parser.add_argument("--label", default="", help="ends the name of the results file")
    parser.add_argument("--before", type=Path, help="an earlier results file, for the table")
    bench.add_places(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
