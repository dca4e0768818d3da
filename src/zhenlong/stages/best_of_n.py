"""Best of n: answer each prompt n times and keep the answer with the largest reward, as a demonstration.

Nothing is trained. What is gained at each number of samples up to n, and what it costs in KL, follows from the same
samples; `sft` on the demonstrations then makes a model that says such answers at the first try.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zhenlong.data import Template
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics import interval
from zhenlong.loop import Cost, Options, Run
from zhenlong.loop.atomic import write_text
from zhenlong.loop.precision import autocast
from zhenlong.models import load_model
from zhenlong.objectives.best_of import best_of_kl, expected_best, powers_up_to
from zhenlong.records import Demonstration, Message, Task, to_json
from zhenlong.rewards import Reward, reward_from
from zhenlong.sampling import TorchSampler
from zhenlong.stages.rollout import (
    Group,
    answers_of,
    count_sampling,
    fitting_prompts,
    roll_out,
    rollout_metrics,
    rollout_sampling,
    sample_rows,
)
from zhenlong.stages.selection import best_answer, only
from zhenlong.stages.setup import context_of
from zhenlong.stages.trees import read_all


def best_of_n(
    *,
    model: str,
    data: str,
    output: str,
    reward: str = "verifier",
    gold: str = "",
    n: int = 16,
    max_tokens: int = 256,
    temperature: float = 1.0,
    too_long: Literal["error", "drop"] = "error",
    chat_template: str = "auto",
    skip_bad_rows: bool = False,
    **training: Any,
) -> Path:
    """Sample n answers to each prompt and write the best ones as demonstrations.

    Args:
        model: Model to sample from: pocket, a model or run folder, or a hub id.
        data: Tasks (prompts with references): files, hf:owner/name or world:tasks; every prompt is answered once.
        output: Run folder to make, with demonstrations.jsonl.
        reward: What an answer is worth: verifier, model:<folder>, or a combination such as `min(model:a, model:b)`.
        gold: Another reward that only measures: what the answers that the first one chooses are worth by this one.
        n: Answers to each prompt.
        max_tokens: Longest answer.
        temperature: Sampling temperature.
        too_long: What to do with a prompt that leaves no room for max_tokens: stop with an error, or drop and count it.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.

    Returns the run folder. Equation: y = argmax r(x, y_i) over y_1 .. y_n from π(.|x); KL at most log n - (n - 1) / n.
    """
    config = dict(locals())
    options = Options(**training)
    _check(config, options)
    with Run(output, config, options, "best_of_n") as run:
        if run.finished:
            return run.output
        tasks, order = read_all(run, data, Task, options)
        policy, tokenizer = load_model(model, device=options.device, dropout=False)
        template = Template.of(tokenizer, chat_template)
        tasks, prompts, order = fitting_prompts(run, tasks, order, template, context_of(policy), max_tokens, too_long)
        worth = reward_from(reward, device=options.device)
        truth = reward_from(gold, device=options.device) if gold else None
        sampler, cost, found = TorchSampler(policy, tokenizer), Cost.of(policy), Found()
        wanted = options.steps * options.batch_size or math.ceil(options.epochs * order.epoch)
        run.track(order=order, found=found)
        for _ in run.steps(math.ceil(wanted / options.batch_size)):
            rows = order.draw(min(options.batch_size, wanted - len(found.rewards)))
            with run.evaluation(), autocast(options, run.device):
                sampling = rollout_sampling(run, template, temperature, max_tokens)
                groups = roll_out(tasks, prompts, rows, sampler, sampling, n, worth)
                run.log(found.add(tasks, groups, truth))
            count_sampling(run, cost, groups)
            run.log(rollout_metrics(groups))
            if run.sampling_now():
                run.samples(sample_rows(tasks, [only(group, best_answer(group, cut=True) or [0]) for group in groups]))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in found.demonstrations]
        write_text(run.output / "demonstrations.jsonl", "".join(lines))
        return run.conclude(found.results(n))


class Found:
    """What was found so far: the rewards of all answers, and the demonstrations, as rows."""

    def __init__(self) -> None:
        self.rewards: list[list[float]] = []  # [prompts][n]
        self.gold: list[list[float]] = []  # the same, empty without a gold reward
        self.demonstrations: list[dict[str, Any]] = []

    def add(self, tasks: Sequence[Task], groups: Sequence[Group], truth: Reward | None) -> dict[str, float]:
        """Take the groups in; returns what their best answers earn, and the share of prompts that have one to keep."""
        measured = iter(truth(answers_of(tasks, groups)) if truth else ())
        best, chosen, kept = [], [], 0
        for group in groups:
            self.rewards.append(group.rewards)
            best.append(max(group.rewards))
            if truth:
                self.gold.append([next(measured) for _ in group.rewards])
                chosen.append(self.gold[-1][group.rewards.index(best[-1])])
            for place in best_answer(group):
                kept += 1
                self.demonstrations.append(to_json(_demonstration(tasks[group.record], group, place)))
        found = {"best_reward": float(np.mean(best)), "kept": kept / len(groups)}
        return found | ({"best_gold": float(np.mean(chosen))} if truth else {})

    def results(self, n: int) -> dict[str, Any]:
        """The expected reward of the best of 1, 2, 4, ... n with its interval over prompts, and the KL's bounds."""
        return {
            "n": n,
            "prompts": len(self.rewards),
            "demonstrations": len(self.demonstrations),
            "kl_bound": best_of_kl(n),
            "expected": [self._expected(fewer) for fewer in powers_up_to(n)],
        }

    def _expected(self, n: int) -> dict[str, Any]:
        best = [expected_best(rewards, n) for rewards in self.rewards]
        point = {"n": n, "kl_bound": best_of_kl(n), "reward": interval(best).as_json()}
        if self.gold:
            pairs = zip(self.rewards, self.gold, strict=True)
            point["gold"] = interval([expected_best(rewards, n, gold) for rewards, gold in pairs]).as_json()
        return point

    def state_dict(self) -> dict[str, Any]:
        """Everything. Rows are shared: they never change."""
        return {"rewards": self.rewards[:], "gold": self.gold[:], "demonstrations": self.demonstrations[:]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.rewards, self.gold = list(state["rewards"]), list(state["gold"])
        self.demonstrations = list(state["demonstrations"])


def _demonstration(task: Task, group: Group, place: int) -> Demonstration:
    meta = {"reward": group.rewards[place], "mean_reward": float(np.mean(group.rewards)), "n": len(group.rewards)}
    return Demonstration((*task.prompt, Message("assistant", group.texts[place])), "best_of_n", meta)


def _check(config: dict[str, Any], options: Options) -> None:
    for name in ("n", "max_tokens"):
        if config[name] < 1:
            raise UserError(f"{name}: expected a whole number of 1 or more, got {config[name]}")
    if not 0 < config["temperature"] < math.inf:
        raise UserError(f"temperature: expected a finite number above 0, got {config['temperature']}")
    if options.evaluate_every:
        raise UserError(f"evaluate_every: expected 0, for nothing is trained here, got {options.evaluate_every}")
