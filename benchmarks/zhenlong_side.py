"""One training run by this project's own stage functions, as a user would call them."""

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
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from turns import Pace
from workload import Work

import zhenlong.stages.ppo as ppo_module
from zhenlong.forest import forward, log_probs, plant, tree
from zhenlong.loop import Ledger, Run
from zhenlong.models import load_model
from zhenlong.sampling import Completion, Sampling
from zhenlong.stages.dpo import dpo
from zhenlong.stages.grpo import grpo
from zhenlong.stages.kto import kto
from zhenlong.stages.reward_model import reward_model
from zhenlong.stages.sft import sft


@dataclass
class Outcome:
    """What a run tells of each of its steps: the `seconds`, and what else could be recorded.

    `answers` are the tokens generated in each step, `scored` the tokens that the loss of a step is over.
    """

    seconds: list[float]
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    scored: list[float] = field(default_factory=list)
    peak: float = 0.0  # bytes of memory beyond those after start-up
    share: float | None = None  # of the machine's matmul rate, over the steps that are timed
    parts: dict[str, list[float]] = field(default_factory=dict)  # seconds of each step in each part of it


def train(work: Work, settings: dict[str, Any]) -> Outcome:
    """Run the stage; `settings` are options of it beside those that both sides share."""
    return workload.within_device(work, lambda: _train(work, settings))


def _train(work: Work, settings: dict[str, Any]) -> Outcome:
    torch.set_num_threads(work.threads)
    output = tempfile.mkdtemp(prefix="zhenlong-benchmark-")
    try:
        with (
            _paced(work, getattr(torch, settings["dtype"])) as (pace, counted),
            nullcontext() if work.device == "cpu" else _unsaved(),
        ):
            _stage(work, output, settings)
        lines = [json.loads(line) for line in (Path(output) / "metrics.jsonl").read_text().splitlines()]
    finally:
        shutil.rmtree(output)
    each = work.batch * (work.group if work.what == "grpo" else 1)
    answers = [each * line.get("response_tokens", 0.0) for line in lines]
    return Outcome(
        seconds=pace.seconds,
        losses=[line["loss"] for line in lines],
        norms=[line["grad_norm"] for line in lines],
        answers=answers,
        scored=answers,
        share=pace.share(counted),
    )


def train_in_parts(work: Work, settings: dict[str, Any]) -> Outcome:
    """PPO by its stage, with the seconds that each step spends in sampling, scoring and the update."""
    seconds: dict[str, list[float]] = {"sampling": [], "scoring": [], "update": []}
    with ExitStack() as timed:
        for part, name in (("sampling", "roll_out"), ("scoring", "_measure"), ("update", "update")):
            place = f"zhenlong.stages.ppo.{name}"
            timed.enter_context(patch(place, _timed(getattr(ppo_module, name), seconds[part])))
        outcome = train(work, settings)
    outcome.parts = seconds
    return outcome


def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def run(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = function(*given, **named)
        seconds.append(time.perf_counter() - started)
        return found

    return run


@contextmanager
def _paced(work: Work, dtype: torch.dtype) -> Iterator[tuple[Pace, Counter[int]]]:
    """The clock of the steps in here, each with what is done between it and the next, and the FLOPs of each step."""
    pace, counted = Pace(work, dtype), Counter[int]()
    count, steps = Ledger.count, Run.steps

    def noted(ledger: Ledger, tokens: int = 0, flops: float = 0.0, **others: float) -> None:
        count(ledger, tokens, flops, **others)
        counted[len(pace.seconds)] += int(flops)

    def paced(run: Run, total: int) -> Iterator[int]:
        for step in steps(run, total):
            if step > 1:
                pace.end()
            pace.begin()
            yield step
        pace.end()

    with patch.object(Ledger, "count", noted), patch.object(Run, "steps", paced):
        yield pace, counted


def _unsaved() -> Any:
    """Runs end without writing their model, whose gigabytes nobody reads."""
    return patch.object(Run, "finish", lambda run, *given: run.conclude())


def peak_memory(work: Work, settings: dict[str, Any]) -> Outcome:
    """The same run in a process of its own, with the most resident memory beyond that of the libraries and data."""
    torch.set_num_threads(work.threads)
    load_model(work.model, device="cpu")
    before = workload.peak_memory()
    outcome = train(work, settings)
    outcome.peak = float(workload.peak_memory() - before)
    return outcome


def _stage(work: Work, output: str, settings: dict[str, Any]) -> None:
    stages = {"sft": sft, "dpo": dpo, "kto": kto, "reward_model": reward_model, "grpo": grpo, "ppo": ppo_module.ppo}
    options = {
        "model": work.model,
        "data": work.data,
        "output": output,
        "lr": work.lr,
        "schedule": "constant",
        "warmup_steps": 0.0,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "batch_size": work.batch,
        "steps": work.steps,
        "seed": work.seed,
        "device": work.device,
        "save_every": 0,
        "progress": False,
    }
    if work.what == "grpo":
        options |= {
            "reward": f"{workload.__file__}:worth",
            "variant": "grpo",
            "kl_coef": 0.0,
            "group_size": work.group,
            "rollouts": work.batch,
            "max_tokens": work.new_tokens,
        }
    if work.what == "ppo":
        options |= {
            "reward": f"{workload.__file__}:worth",
            "rollouts": work.batch,
            "passes": 1,
            "max_tokens": work.new_tokens,
        }
    stage: Any = stages[work.what]
    if work.replay:
        with patch("zhenlong.stages.grpo.TorchSampler", lambda model, tokenizer: _Replay(model, tokenizer, work)):
            stage(**options | settings)
    else:
        stage(**options | settings)


class _Replay:
    """A sampler that says what the other side said in the same step, with this model's log-probabilities of it."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, work: Work) -> None:
        self.model, self.tokenizer, self.work = model, tokenizer, work
        self.left = json.loads(Path(work.replay).read_text())

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        rollout = self.left.pop(0)
        found = []
        for prompt in prompts:
            answers = [answer for asked, answer in rollout if asked == list(prompt)]
            if len(answers) != n:
                raise RuntimeError(f"the recorded rollout has {len(answers)} answers to a prompt, expected {n}")
            found.append(self._completions(list(prompt), answers))
        return found

    def _completions(self, prompt: list[int], answers: list[list[int]]) -> list[Completion]:
        forest = plant([tree(prompt, answers)], device=self.model.device)
        with torch.no_grad():
            scores = log_probs(self.model, forward(self.model, forest), forest).split([*map(len, answers)])
        return [
            Completion(
                tuple(answer),
                tuple(of_answer.tolist()),
                self.tokenizer.decode(answer, skip_special_tokens=True),
                len(answer) == self.work.new_tokens,
            )
            for answer, of_answer in zip(answers, scores, strict=True)
        ]
