"""One training run by this project's stage functions, called as a user would."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import workload
from interleaved_runs import StepClock
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from workload import RunSpec

import zhenlong.stages.ppo as ppo_module
from zhenlong.forest import forward, log_probs, make_tree, pack_trees
from zhenlong.loop import Ledger, Run
from zhenlong.models import load_model
from zhenlong.sampling import Completion, SamplingParams
from zhenlong.stages.dpo import dpo
from zhenlong.stages.grpo import grpo
from zhenlong.stages.kto import kto
from zhenlong.stages.reward_model import reward_model
from zhenlong.stages.sft import sft


@dataclass
class RunMeasurements:
    """The measurements of a run, one value per step.

    `generated_tokens` are the tokens generated in each step, `scored_tokens` the tokens that a step's loss is over.
    """

    seconds: list[float]
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    generated_tokens: list[float] = field(default_factory=list)
    loss_tokens: list[float] = field(default_factory=list)
    peak_memory_bytes: float = 0.0  # bytes above the level after start-up
    matmul_fraction: float | None = None  # fraction of the machine's matmul rate, over the timed steps
    phase_seconds: dict[str, list[float]] = field(default_factory=dict)  # seconds per phase and step


def train(spec: RunSpec, settings: dict[str, Any]) -> RunMeasurements:
    """Run the stage; `settings` are its options besides the shared ones."""
    return workload.with_device_memory(spec, lambda: _train(spec, settings))


def _train(spec: RunSpec, settings: dict[str, Any]) -> RunMeasurements:
    torch.set_num_threads(spec.threads)
    output = tempfile.mkdtemp(prefix="zhenlong-benchmark-")
    try:
        with (
            _step_clock(spec, getattr(torch, settings["dtype"])) as (clock, flops_per_step),
            nullcontext() if spec.device == "cpu" else _without_saving(),
        ):
            _run_stage(spec, output, settings)
        lines = [json.loads(line) for line in (Path(output) / "metrics.jsonl").read_text().splitlines()]
    finally:
        shutil.rmtree(output)
    responses_per_step = spec.batch_size * (spec.samples_per_prompt if spec.stage == "grpo" else 1)
    generated_tokens = [responses_per_step * line.get("response_tokens", 0.0) for line in lines]
    return RunMeasurements(
        seconds=clock.seconds,
        losses=[line["loss"] for line in lines],
        grad_norms=[line["grad_norm"] for line in lines],
        generated_tokens=generated_tokens,
        loss_tokens=generated_tokens,
        matmul_fraction=clock.matmul_fraction(flops_per_step),
    )


def train_with_phase_times(spec: RunSpec, settings: dict[str, Any]) -> RunMeasurements:
    """Run PPO with the seconds that each step spends in sampling, scoring and the update."""
    seconds: dict[str, list[float]] = {"sampling": [], "scoring": [], "update": []}
    with ExitStack() as timed:
        for part, name in (
            ("sampling", "generate_rollouts"),
            ("scoring", "_add_reference_and_values"),
            ("update", "optimizer_step"),
        ):
            place = f"zhenlong.stages.ppo.{name}"
            timed.enter_context(patch(place, _with_timing(getattr(ppo_module, name), seconds[part])))
        outcome = train(spec, settings)
    outcome.phase_seconds = seconds
    return outcome


def _with_timing(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def run(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = function(*given, **named)
        seconds.append(time.perf_counter() - started)
        return found

    return run


@contextmanager
def _step_clock(spec: RunSpec, dtype: torch.dtype) -> Iterator[tuple[StepClock, Counter[int]]]:
    """The clock of the steps in this context, including the work between steps, and the FLOPs of each step."""
    clock, flops_per_step = StepClock(spec, dtype), Counter[int]()
    count, steps = Ledger.count, Run.steps

    def noted(ledger: Ledger, tokens: int = 0, flops: float = 0.0, **others: float) -> None:
        count(ledger, tokens, flops, **others)
        flops_per_step[len(clock.seconds)] += int(flops)

    def paced(run: Run, total: int) -> Iterator[int]:
        for step in steps(run, total):
            if step > 1:
                clock.end_step()
            clock.begin_step()
            yield step
        clock.end_step()

    with patch.object(Ledger, "count", noted), patch.object(Run, "steps", paced):
        yield clock, flops_per_step


def _without_saving() -> Any:
    """Runs in this context do not write their model."""
    return patch.object(Run, "finish", lambda run, *given: run.finish_without_model())


def peak_memory(spec: RunSpec, settings: dict[str, Any]) -> RunMeasurements:
    """The same run in a process of its own, with the most resident memory beyond that of the libraries and data."""
    torch.set_num_threads(spec.threads)
    load_model(spec.model, device="cpu")
    before = workload.peak_memory()
    outcome = train(spec, settings)
    outcome.peak_memory_bytes = float(workload.peak_memory() - before)
    return outcome


def _run_stage(spec: RunSpec, output: str, settings: dict[str, Any]) -> None:
    stages = {"sft": sft, "dpo": dpo, "kto": kto, "reward_model": reward_model, "grpo": grpo, "ppo": ppo_module.ppo}
    options = {
        "model": spec.model,
        "data": spec.data,
        "output": output,
        "lr": spec.lr,
        "schedule": "constant",
        "warmup_steps": 0.0,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "batch_size": spec.batch_size,
        "steps": spec.steps,
        "seed": spec.seed,
        "device": spec.device,
        "save_every": 0,
        "progress": False,
    }
    if spec.stage == "grpo":
        options |= {
            "reward": f"{workload.__file__}:word_sum_reward",
            "variant": "grpo",
            "kl_coef": 0.0,
            "samples_per_prompt": spec.samples_per_prompt,
            "rollout_prompts": spec.batch_size,
            "max_tokens": spec.max_tokens,
        }
    if spec.stage == "ppo":
        options |= {
            "reward": f"{workload.__file__}:word_sum_reward",
            "rollout_prompts": spec.batch_size,
            "update_epochs": 1,
            "max_tokens": spec.max_tokens,
        }
    stage: Any = stages[spec.stage]
    if spec.rollouts_file:
        with patch(
            "zhenlong.stages.grpo.TorchSampler", lambda model, tokenizer: _ReplaySampler(model, tokenizer, spec)
        ):
            stage(**options | settings)
    else:
        stage(**options | settings)


class _ReplaySampler:
    """A sampler that replays the other side's rollouts of the same step, with this model's log-probabilities."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: RunSpec) -> None:
        self.model, self.tokenizer, self.spec = model, tokenizer, spec
        self.remaining_rollouts = json.loads(Path(spec.rollouts_file).read_text())

    def sample(self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, n: int = 1) -> list[list[Completion]]:
        rollout = self.remaining_rollouts.pop(0)
        found = []
        for prompt in prompts:
            responses = [answer for asked, answer in rollout if asked == list(prompt)]
            if len(responses) != n:
                raise RuntimeError(f"the recorded rollout has {len(responses)} answers to a prompt, expected {n}")
            found.append(self._completions(list(prompt), responses))
        return found

    def _completions(self, prompt: list[int], responses: list[list[int]]) -> list[Completion]:
        forest = pack_trees([make_tree(prompt, responses)], device=self.model.device)
        with torch.no_grad():
            scores = log_probs(self.model, forward(self.model, forest), forest).split([*map(len, responses)])
        return [
            Completion(
                tuple(answer),
                tuple(of_answer.tolist()),
                self.tokenizer.decode(answer, skip_special_tokens=True),
                len(answer) == self.spec.max_tokens,
            )
            for answer, of_answer in zip(responses, scores, strict=True)
        ]
