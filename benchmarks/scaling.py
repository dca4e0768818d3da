"""What a step costs against tokens, group size, prompt share, vocabulary and options, and its memory against length.

    .venv/bin/python benchmarks/scaling.py [--curves tokens_sft,group] [--threads 2] [--repeats 5]

Seconds are the median of `--repeats` steps (forward, backward, clipping, AdamW) of this project's own loop, losses and
forest on a small Llama with random weights. The points of a curve take turns, so that a noisy minute is everyone's.
Peak memory is that of a fresh process a point. Each curve gets a line by least squares, its R², and the exponent
between logarithms. Writes `results/scaling-<date>-<machine>.json` and the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import bench
import numpy as np
import rows
import torch
import workload
from arguments import above_zero, some
from curves import Curve, curve, table
from transformers import PreTrainedModel

from zhenlong.evaluate.adapters.request import Score
from zhenlong.evaluate.runner.local import LocalBackend
from zhenlong.forest import Batch, Node, forward, log_probs, plant_batches, tree
from zhenlong.kernels import layers, memory
from zhenlong.loop import Learner, Options, StepLoss
from zhenlong.models import load_model
from zhenlong.objectives.policy_gradient import policy_loss
from zhenlong.objectives.preference import preference_loss
from zhenlong.objectives.reduce import per_response
from zhenlong.stages.pretrain import token_loss

Points = Iterator[tuple[float, Callable[[], object]]]  # x, and what is timed there
MODEL: Final = "small"
VOCABULARY: Final = 4096
MARKERS: Final = "<!-- table of scaling.py: begin -->", "<!-- table of scaling.py: end -->"
PACKAGES: Final = ("zhenlong", "torch", "transformers")
MIB: Final = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    torch.set_num_threads(asked.threads)
    machine = rows.machine(asked.threads)
    print(f"load average {machine['load_before']:.2f} before the start; the figures need a quiet machine", flush=True)
    found: list[Curve] = []
    for name in asked.curves:
        for one in _memory(asked) if name == "memory" else [_timed(*TIMED[name], asked)]:
            found.append(one)
            print(table([one]).splitlines()[-1], flush=True)
    results = {"machine": machine, "versions": rows.versions(PACKAGES), "curves": [one.as_json() for one in found]}
    path = asked.output / f"scaling-{rows.today(machine)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    if asked.page and asked.size == 1:  # the labels are those of whole sizes
        rows.renew(asked.page, MARKERS, f"{rows.origin(results, path)}\n\n{table(found)}")
    return 0


def _timed(what: str, against: str, points: Callable[[float], Points], asked: argparse.Namespace) -> Curve:
    """Milliseconds at each point, which take turns, forth and back."""
    listed = list(points(asked.size))
    for _, run in listed:
        run()
    spent: dict[float, list[float]] = {x: [] for x, _ in listed}
    for repeat in range(asked.repeats):
        for x, run in listed if repeat % 2 else reversed(listed):
            started = time.perf_counter()
            run()
            spent[x].append(1e3 * (time.perf_counter() - started))
    return curve(what, against, "ms", list(spent), [statistics.median(each) for each in spent.values()])


def _memory(asked: argparse.Namespace) -> Iterator[Curve]:
    """MiB that a step of DPO takes beyond libraries, weights, gradients and AdamW's moments, against two things."""
    longest = int(1024 * asked.size)
    sizes = [1024, 4096, 16384, 32768, 65536]
    yield curve(f"memory of dpo, 2 answers of {longest:,}", "vocabulary", "MiB", sizes,
                [_peak(vocabulary, longest, asked.threads) for vocabulary in sizes])  # fmt: skip
    for vocabulary in (4096, 65536):
        lengths = [int(length * asked.size) for length in (256, 512, 1024, 2048)]
        yield curve(f"memory of dpo, vocabulary {vocabulary:,}", "tokens of each of 2 answers", "MiB", lengths,
                    [_peak(vocabulary, length, asked.threads) for length in lengths])  # fmt: skip


def _peak(vocabulary: int, length: int, threads: int) -> float:
    """In a fresh process, whose peak is that of nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_peak_here, vocabulary, length, threads).result()


def _peak_here(vocabulary: int, length: int, threads: int) -> float:
    torch.set_num_threads(threads)
    before = workload.peak_memory()
    step = Step("dpo", _trees(1, 64, 2, length, vocabulary), vocabulary)
    for _ in range(2):  # AdamW makes its moments in the first
        step()
    states = 4 * 4 * sum(parameter.numel() for parameter in step.model.parameters())
    return (workload.peak_memory() - before - states) / MIB


class Step:
    """An optimiser step over token trees, as the stages make it."""

    def __init__(self, kind: str, trees: Sequence[Node], vocabulary: int = VOCABULARY) -> None:
        self.model = workload.new_model(workload.SIZES[MODEL], vocabulary)
        layers.use_in(self.model)  # as in a model that is loaded
        memory.keep()
        self.trees, self._loss = trees, partial(LOSSES[kind], self.model)
        self._learner = Learner(self.model, Options(lr=1e-5, dtype="float32", device="cpu"), 1 << 30)

    def __call__(self) -> None:
        batches = plant_batches(self.trees, self._learner.options.tokens_per_microbatch)
        self._learner.step(batches, self._loss, sum(len(batch.forest.target) for batch in batches))


def _dpo(model: PreTrainedModel, batch: Batch) -> StepLoss:
    forest = batch.forest
    sums = per_response(log_probs(model, forward(model, forest), forest), forest.leaf, forest.leaves)  # [R]
    anchor = sums.detach()
    return StepLoss(preference_loss(sums[::2], sums[1::2], anchor[::2], anchor[1::2]).losses.sum())


def _grpo(model: PreTrainedModel, batch: Batch) -> StepLoss:
    forest = batch.forest
    values, _ = log_probs(model, forward(model, forest), forest, entropy=True)  # [M]
    advantages = torch.linspace(-1, 1, forest.leaves)[forest.leaf]
    return StepLoss(policy_loss(values, values.detach(), advantages, forest.leaf, forest.leaves)[0])


LOSSES: Final = {"sft": token_loss, "dpo": _dpo, "grpo": _grpo}


def _trees(count: int, prompt: int, answers: int, answer: int, vocabulary: int = VOCABULARY) -> list[Node]:
    """Random prompts with answers, all of one length."""
    draw = np.random.default_rng(0).integers
    return [
        tree(draw(vocabulary, size=prompt).tolist(), draw(vocabulary, size=(answers, answer)).tolist())
        for _ in range(count)
    ]


def _tokens(kind: str, prompt: int, answers: int, answer: int, counts: Sequence[int], size: float) -> Points:
    for count in counts:
        trees = _trees(max(1, int(size * count)), prompt, answers, answer)
        yield sum(node.size for node in trees), Step(kind, trees)


def _lengths(size: float) -> Points:
    """Ever fewer conversations that are ever longer."""
    total = int(4096 * size)
    for count in (32, 16, 8, 4, 2, 1):
        yield total // count, Step("sft", _trees(count, total // count // 4, 1, total // count * 3 // 4))


def _groups(size: float) -> Points:
    for group in (1, 2, 4, 8, 16, 32):
        yield group, Step("grpo", _trees(4, int(256 * size), group, int(32 * size)))


def _shares(size: float) -> Points:
    length = int(512 * size)
    for eighths in (1, 2, 4, 6, 7):
        prompt = length * eighths // 8
        yield eighths / 8, Step("dpo", _trees(4, prompt, 2, length - prompt))


def _vocabularies(size: float) -> Points:
    for vocabulary in (1024, 2048, 4096, 8192, 16384, 32768, 65536):
        yield vocabulary, Step("dpo", _trees(4, 32, 2, int(96 * size), vocabulary), vocabulary)


def _options(size: float) -> Points:
    """16 questions of 128 words, whose options have 8."""
    with tempfile.TemporaryDirectory() as name:
        workload.make_model(Path(name), workload.SIZES[MODEL], VOCABULARY)
        backend = LocalBackend(load_model(f"{name}/model", device="cpu"), hashed=lambda path: "", device="cpu")
    draw = np.random.default_rng(0).integers

    def text(words: int) -> str:
        return " ".join(f"w{number}" for number in draw(3, VOCABULARY - 1, words))

    for options in (2, 4, 8, 16, 32):
        asked = [Score(text(int(128 * size)), tuple(f" {text(8)}" for _ in range(options))) for _ in range(16)]
        yield options, lambda asked=asked: list(backend.score(asked))


# The step, what it is measured against, and the points as a function of `--size`.
TIMED: Final[dict[str, tuple[str, str, Callable[[float], Points]]]] = {
    "tokens_sft": ("sft, 32 + 128 tokens", "tokens", partial(_tokens, "sft", 32, 1, 128, (4, 8, 16, 32, 64))),
    "tokens_dpo": ("dpo, 32 + 2 × 128 tokens", "tokens", partial(_tokens, "dpo", 32, 2, 128, (2, 4, 8, 16, 32))),
    "tokens_grpo": ("grpo, 32 + 8 × 64 tokens", "tokens", partial(_tokens, "grpo", 32, 8, 64, (1, 2, 4, 8, 16))),
    "length": ("sft, 4,096 tokens in all", "tokens of a conversation", _lengths),
    "group": ("grpo, 4 prompts of 256, answers of 32", "answers to a prompt", _groups),
    "share": ("dpo, 4 pairs of 2 × 512 tokens", "share of the prompt", _shares),
    "vocabulary": ("dpo, 4 × (32 + 2 × 96) tokens", "vocabulary", _vocabularies),
    "options": ("multiple choice, 16 questions of 128 + 8 each", "options", _options),
}
CURVES: Final = (*TIMED, "memory")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=some(CURVES), default=list(CURVES),
                        help=f"some of {','.join(CURVES)} (default: all)")  # fmt: skip
    parser.add_argument("--repeats", type=above_zero, default=5, help="steps a point (default: 5)")
    parser.add_argument("--threads", type=above_zero, default=os.cpu_count(), help="default: one a core")
    parser.add_argument("--size", type=float, default=1.0, help="scales lengths and counts, to try the command quickly")
    bench.add_places(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
