"""Scaling of a step's time with tokens, group size, prompt fraction, vocabulary and choices, and of its memory.

    .venv/bin/python benchmarks/scaling.py [--curves tokens_sft,samples_per_prompt] [--threads 2] [--repeats 5]

Seconds are the median of `--repeats` steps (forward, backward, clipping, AdamW) of this project's own loop, losses and
forest on a small Llama with random weights. The points of a curve are interleaved, so that noise affects all alike.
Peak memory is measured in a fresh process per point. Each curve gets a least-squares line, its R², and the exponent of
a log-log fit. Writes `results/scaling-<date>-<machine>.json` and the tables of docs/performance.md.
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
import results_table
import torch
import workload
from argument_types import positive_int, subset_of
from scaling_curves import ScalingCurve, curve_table, fit_curve
from transformers import PreTrainedModel

from zhenlong.forest import Microbatch, TreeNode, forward, log_probs, make_microbatches, make_tree
from zhenlong.inference.local import LocalBackend
from zhenlong.inference.options import BackendSettings
from zhenlong.inference.requests import ScoreRequest
from zhenlong.kernels import malloc, patching
from zhenlong.loop import Learner, StepLoss, TrainingOptions
from zhenlong.models import load_model
from zhenlong.objectives.policy_gradient import RatioSettings, policy_loss
from zhenlong.objectives.preference import PreferenceLogProbs, PreferenceSettings, preference_loss
from zhenlong.objectives.reduce import sum_per_response
from zhenlong.stages.stage_steps import token_loss

Points = Iterator[tuple[float, Callable[[], object]]]  # x, and the function timed at x
MODEL: Final = "small"
VOCAB_SIZE: Final = 4096
MARKERS: Final = "<!-- table of scaling.py: begin -->", "<!-- table of scaling.py: end -->"
PACKAGES: Final = ("zhenlong", "torch", "transformers")
MIB: Final = 2**20


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    torch.set_num_threads(args.threads)
    machine = results_table.machine_info(args.threads)
    print(f"load average {machine['load_before']:.2f} before the start; timings need an idle machine", flush=True)
    found: list[ScalingCurve] = []
    for name in args.curves:
        for one in _memory_curves(args) if name == "memory" else [_measure_time(*TIMED_CURVES[name], args)]:
            found.append(one)
            print(curve_table([one]).splitlines()[-1], flush=True)
    results = {
        "machine": machine,
        "versions": results_table.package_versions(PACKAGES),
        "curves": [one.as_json() for one in found],
    }
    path = args.output / f"scaling-{results_table.results_file_stem(machine)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    if args.page and args.scale == 1:  # the labels hold for scale 1 only
        results_table.replace_between_markers(
            args.page, MARKERS, f"{results_table.provenance(results, path)}\n\n{curve_table(found)}"
        )
    return 0


def _measure_time(what: str, against: str, points: Callable[[float], Points], args: argparse.Namespace) -> ScalingCurve:
    """Milliseconds at each point, interleaved forwards and backwards."""
    listed = list(points(args.scale))
    for _, run in listed:
        run()
    spent: dict[float, list[float]] = {x: [] for x, _ in listed}
    for repeat in range(args.repeats):
        for x, run in listed if repeat % 2 else reversed(listed):
            started = time.perf_counter()
            run()
            spent[x].append(1e3 * (time.perf_counter() - started))
    return fit_curve(what, against, "ms", list(spent), [statistics.median(each) for each in spent.values()])


def _memory_curves(args: argparse.Namespace) -> Iterator[ScalingCurve]:
    """MiB of a DPO step on top of libraries, weights, gradients and AdamW's moments, by vocabulary and by length."""
    longest = int(1024 * args.scale)
    sizes = [1024, 4096, 16384, 32768, 65536]
    yield fit_curve(f"memory of dpo, 2 answers of {longest:,}", "vocabulary", "MiB", sizes,
                [_peak_memory(vocabulary, longest, args.threads) for vocabulary in sizes])  # fmt: skip
    for vocabulary in (4096, 65536):
        lengths = [int(length * args.scale) for length in (256, 512, 1024, 2048)]
        yield fit_curve(f"memory of dpo, vocabulary {vocabulary:,}", "tokens of each of 2 answers", "MiB", lengths,
                    [_peak_memory(vocabulary, length, args.threads) for length in lengths])  # fmt: skip


def _peak_memory(vocab_size: int, length: int, threads: int) -> float:
    """Peak memory in a fresh process, unaffected by other work."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_peak_memory_in_this_process, vocab_size, length, threads).result()


def _peak_memory_in_this_process(vocab_size: int, length: int, threads: int) -> float:
    torch.set_num_threads(threads)
    before = workload.peak_memory()
    step = TrainingStep("dpo", _random_trees(1, 64, 2, length, vocab_size), vocab_size)
    for _ in range(2):  # AdamW allocates its moments in the first
        step()
    states = 4 * 4 * sum(parameter.numel() for parameter in step.model.parameters())
    return (workload.peak_memory() - before - states) / MIB


class TrainingStep:
    """An optimiser step over token trees, as in the stages."""

    def __init__(self, stage: str, trees: Sequence[TreeNode], vocab_size: int = VOCAB_SIZE) -> None:
        self.model = workload.new_model(workload.MODEL_SIZES[MODEL], vocab_size)
        patching.patch_model(self.model)  # as for a loaded model
        malloc.keep_freed_memory()
        self.trees, self._loss = trees, partial(LOSSES[stage], self.model)
        self._learner = Learner(self.model, TrainingOptions(lr=1e-5), 1 << 30)

    def __call__(self) -> None:
        batches = make_microbatches(self.trees, self._learner.options.tokens_per_microbatch)
        self._learner.step(batches, self._loss, sum(len(batch.forest.target) for batch in batches))


def _dpo_loss(model: PreTrainedModel, batch: Microbatch) -> StepLoss:
    forest = batch.forest
    sums = sum_per_response(
        log_probs(model, forward(model, forest), forest), forest.response_index, forest.num_responses
    )  # [R]
    reference = sums.detach()
    pairs = PreferenceLogProbs(sums[::2], sums[1::2], reference[::2], reference[1::2])
    return StepLoss(preference_loss(pairs, PreferenceSettings()).losses.sum())


def _grpo_loss(model: PreTrainedModel, batch: Microbatch) -> StepLoss:
    forest = batch.forest
    values, _ = log_probs(model, forward(model, forest), forest, return_entropy=True)  # [M]
    advantages = torch.linspace(-1, 1, forest.num_responses)[forest.response_index]
    total, _ = policy_loss(
        values, values.detach(), advantages, forest.response_index, forest.num_responses, RatioSettings()
    )
    return StepLoss(total)


LOSSES: Final = {"sft": token_loss, "dpo": _dpo_loss, "grpo": _grpo_loss}


def _random_trees(
    count: int, prompt: int, num_responses: int, response: int, vocab_size: int = VOCAB_SIZE
) -> list[TreeNode]:
    """Random prompts with responses, all of the same lengths."""
    draw = np.random.default_rng(0).integers
    return [
        make_tree(draw(vocab_size, size=prompt).tolist(), draw(vocab_size, size=(num_responses, response)).tolist())
        for _ in range(count)
    ]


def _token_points(
    stage: str, prompt: int, num_responses: int, response: int, counts: Sequence[int], scale: float
) -> Points:
    for count in counts:
        trees = _random_trees(max(1, int(scale * count)), prompt, num_responses, response)
        yield sum(node.num_tokens for node in trees), TrainingStep(stage, trees)


def _length_points(scale: float) -> Points:
    """Fewer and longer conversations with the same total tokens."""
    total = int(4096 * scale)
    for count in (32, 16, 8, 4, 2, 1):
        yield total // count, TrainingStep("sft", _random_trees(count, total // count // 4, 1, total // count * 3 // 4))


def _group_size_points(scale: float) -> Points:
    for samples_per_prompt in (1, 2, 4, 8, 16, 32):
        yield (
            samples_per_prompt,
            TrainingStep("grpo", _random_trees(4, int(256 * scale), samples_per_prompt, int(32 * scale))),
        )


def _prompt_fraction_points(scale: float) -> Points:
    length = int(512 * scale)
    for eighths in (1, 2, 4, 6, 7):
        prompt = length * eighths // 8
        yield eighths / 8, TrainingStep("dpo", _random_trees(4, prompt, 2, length - prompt))


def _vocab_size_points(scale: float) -> Points:
    for vocab_size in (1024, 2048, 4096, 8192, 16384, 32768, 65536):
        yield vocab_size, TrainingStep("dpo", _random_trees(4, 32, 2, int(96 * scale), vocab_size), vocab_size)


def _choice_points(scale: float) -> Points:
    """16 questions of 128 words with choices of 8 words."""
    with tempfile.TemporaryDirectory() as name:
        workload.make_model(Path(name), workload.MODEL_SIZES[MODEL], VOCAB_SIZE)
        backend = LocalBackend(
            load_model(f"{name}/model", device="cpu"), file_hash=lambda path: "", settings=BackendSettings(device="cpu")
        )
    draw = np.random.default_rng(0).integers

    def text(words: int) -> str:
        return " ".join(f"w{number}" for number in draw(3, VOCAB_SIZE - 1, words))

    for num_choices in (2, 4, 8, 16, 32):
        requests = [
            ScoreRequest(text(int(128 * scale)), tuple(f" {text(8)}" for _ in range(num_choices))) for _ in range(16)
        ]
        yield num_choices, lambda asked=requests: list(backend.score(asked))


# The step, the x-axis, and the points as a function of `--scale`.
TIMED_CURVES: Final[dict[str, tuple[str, str, Callable[[float], Points]]]] = {
    "tokens_sft": ("sft, 32 + 128 tokens", "tokens", partial(_token_points, "sft", 32, 1, 128, (4, 8, 16, 32, 64))),
    "tokens_dpo": ("dpo, 32 + 2 × 128 tokens", "tokens", partial(_token_points, "dpo", 32, 2, 128, (2, 4, 8, 16, 32))),
    "tokens_grpo": ("grpo, 32 + 8 × 64 tokens", "tokens", partial(_token_points, "grpo", 32, 8, 64, (1, 2, 4, 8, 16))),
    "sequence_length": ("sft, 4,096 tokens in all", "tokens of a conversation", _length_points),
    "samples_per_prompt": ("grpo, 4 prompts of 256, answers of 32", "answers to a prompt", _group_size_points),
    "prompt_fraction": ("dpo, 4 pairs of 2 × 512 tokens", "share of the prompt", _prompt_fraction_points),
    "vocab_size": ("dpo, 4 × (32 + 2 × 96) tokens", "vocabulary", _vocab_size_points),
    "num_choices": ("multiple choice, 16 questions of 128 + 8 each", "options", _choice_points),
}
CURVE_NAMES: Final = (*TIMED_CURVES, "memory")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=subset_of(CURVE_NAMES), default=list(CURVE_NAMES),
                        help=f"some of {','.join(CURVE_NAMES)} (default: all)")  # fmt: skip
    parser.add_argument("--repeats", type=positive_int, default=5, help="steps per point (default: 5)")
    parser.add_argument("--threads", type=positive_int, default=os.cpu_count(), help="threads (default: one per core)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scales lengths and counts, to try the command quickly"
    )
    bench.add_output_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
