"""Best of n: answer each prompt n times and keep the answer with the largest reward, as a demonstration.

Nothing is trained. What is gained at each number of samples up to n, and what it costs in KL, follows from the same
samples; `sft` on the demonstrations then makes a model that says such answers at the first try.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate
from zhenlong.data.options import PromptOptions
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.loop import FlopEstimator, Run, TrainingOptions
from zhenlong.loop.atomic import write_text
from zhenlong.loop.precision import autocast
from zhenlong.models import ForwardSettings, load_model
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.best_of_n import best_of_kl, expected_best_of_n, powers_of_two_up_to
from zhenlong.options import take_options
from zhenlong.options.keywords import BestOfNKwargs
from zhenlong.records import Demonstration, Message, Task, to_json
from zhenlong.rewards import RewardFn, build_reward_fn
from zhenlong.rewards.options import RewardOptions
from zhenlong.sampling import TorchSampler
from zhenlong.stages.options import SamplingOptions
from zhenlong.stages.prepare_data import read_training_data
from zhenlong.stages.rollout import (
    Group,
    count_sampling_cost,
    generate_rollouts,
    rollout_metrics,
    rollout_sampling,
    sample_rows,
    task_responses,
    tokenize_prompts,
)
from zhenlong.stages.selection import best_response, subset
from zhenlong.stages.stage_steps import resolve_max_length


def best_of_n(
    *,
    model: str,
    data: str,
    output: str,
    reward: str = "verifier",
    gold: str = "",
    samples_per_prompt: int = 16,
    **options: Unpack[BestOfNKwargs],
) -> Path:
    """Sample n answers to each prompt and write the best ones as demonstrations.

    Args:
        model: Model to sample from: pocket, a model or run folder, or a hub id.
        data: Tasks (prompts with references): files, hf:owner/name or world:tasks; every prompt is answered once.
        output: Run folder to make, with demonstrations.jsonl.
        reward: What an answer is worth: verifier, model:<folder>, or a combination such as `min(model:a, model:b)`.
        gold: Another reward that only measures: what the answers that the first one chooses are worth by this one.
        samples_per_prompt: Responses sampled for each prompt (n).

    Returns the run folder. Equation: y = argmax r(x, y_i) over y_1 .. y_n from π(.|x); KL at most log n - (n - 1) / n.
    """
    config = dict(locals())
    prompt_options, sampling_options, reward_options, model_options, training = take_options(
        options,
        PromptOptions(),
        SamplingOptions(),
        RewardOptions(),
        ModelOptions(),
        TrainingOptions(),
    )
    _check_options(samples_per_prompt, training)
    with Run(
        output,
        config,
        training,
        name="best_of_n",
        model_options=model_options,
        other_options=(prompt_options, sampling_options, reward_options),
    ) as run:
        if run.finished:
            return run.output
        tasks, order = read_training_data(run, data, Task, training)
        policy, tokenizer = load_model(model, device=model_options.device, forward=ForwardSettings(dropout=False))
        template = ChatTemplate.from_tokenizer(tokenizer, prompt_options.template_spec)
        prompts = tokenize_prompts(run, tasks, order, template, resolve_max_length(policy), sampling_options)
        reward_fn = build_reward_fn(
            reward, device=model_options.device, judge_cache=run.output / "judge_cache.sqlite", options=reward_options
        )
        gold_reward_fn = (
            build_reward_fn(
                gold, device=model_options.device, judge_cache=run.output / "judge_cache.sqlite", options=reward_options
            )
            if gold
            else None
        )
        sampler, cost, collected = TorchSampler(policy, tokenizer), FlopEstimator.for_model(policy), BestOfNResults()
        num_prompts = training.steps * training.batch_size or math.ceil(training.epochs * prompts.order.epoch_size)
        run.track(order=prompts.order, results=collected)
        for _ in run.steps(math.ceil(num_prompts / training.batch_size)):
            rows = prompts.order.draw(min(training.batch_size, num_prompts - len(collected.rewards)))
            with run.eval_mode(), autocast(run.dtype, run.device):
                sampling = rollout_sampling(run, template, sampling_options)
                groups = generate_rollouts(prompts, rows, sampler, sampling, samples_per_prompt, reward_fn)
                run.log(collected.add(prompts.tasks, groups, gold_reward_fn))
            count_sampling_cost(run, cost, groups)
            run.log(rollout_metrics(groups))
            if run.should_sample():
                run.write_samples(
                    sample_rows(
                        prompts.tasks,
                        [subset(group, best_response(group, allow_truncated=True) or [0]) for group in groups],
                    )
                )
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in collected.demonstrations]
        write_text(run.output / "demonstrations.jsonl", "".join(lines))
        return run.finish_without_model(collected.results(samples_per_prompt))


class BestOfNResults:
    """What was found so far: the rewards of all answers, and the demonstrations, as rows."""

    def __init__(self) -> None:
        self.rewards: list[list[float]] = []  # [prompts][n]
        self.gold: list[list[float]] = []  # the same, empty without a gold reward
        self.demonstrations: list[dict[str, Any]] = []

    def add(self, tasks: Sequence[Task], groups: Sequence[Group], gold_reward_fn: RewardFn | None) -> dict[str, float]:
        """Take the groups in; returns what their best answers earn, and the share of prompts that have one to keep."""
        gold_rewards = iter(gold_reward_fn(task_responses(tasks, groups)) if gold_reward_fn else ())
        best_rewards, best_gold_rewards, num_selected = [], [], 0
        for group in groups:
            self.rewards.append(group.rewards)
            best_rewards.append(max(group.rewards))
            if gold_reward_fn:
                self.gold.append([next(gold_rewards) for _ in group.rewards])
                best_gold_rewards.append(self.gold[-1][group.rewards.index(best_rewards[-1])])
            for index in best_response(group):
                num_selected += 1
                self.demonstrations.append(to_json(_demonstration(tasks[group.task_index], group, index)))
        metrics = {"best_reward": float(np.mean(best_rewards)), "selected_prompt_fraction": num_selected / len(groups)}
        return metrics | ({"best_gold": float(np.mean(best_gold_rewards))} if gold_reward_fn else {})

    def results(self, n: int) -> dict[str, Any]:
        """The expected reward of the best of 1, 2, 4, ... n with its interval over prompts, and the KL's bounds."""
        return {
            "n": n,
            "prompts": len(self.rewards),
            "demonstrations": len(self.demonstrations),
            "kl_bound": best_of_kl(n),
            "expected": [self._expected(fewer) for fewer in powers_of_two_up_to(n)],
        }

    def _expected(self, n: int) -> dict[str, Any]:
        best = [expected_best_of_n(rewards, n) for rewards in self.rewards]
        point = {"n": n, "kl_bound": best_of_kl(n), "reward": mean_interval(best).as_json()}
        if self.gold:
            pairs = zip(self.rewards, self.gold, strict=True)
            point["gold"] = mean_interval([expected_best_of_n(rewards, n, gold) for rewards, gold in pairs]).as_json()
        return point

    def state_dict(self) -> dict[str, Any]:
        """Everything. Rows are shared: they never change."""
        return {"rewards": self.rewards[:], "gold": self.gold[:], "demonstrations": self.demonstrations[:]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.rewards, self.gold = list(state["rewards"]), list(state["gold"])
        self.demonstrations = list(state["demonstrations"])


def _demonstration(task: Task, group: Group, index: int) -> Demonstration:
    meta = {"reward": group.rewards[index], "mean_reward": float(np.mean(group.rewards)), "n": len(group.rewards)}
    return Demonstration((*task.prompt, Message("assistant", group.texts[index])), "best_of_n", meta)


def _check_options(samples_per_prompt: int, options: TrainingOptions) -> None:
    if samples_per_prompt < 1:
        raise UserError(f"samples_per_prompt: expected a whole number of 1 or more, got {samples_per_prompt}")
    if options.evaluate_every:
        raise UserError(f"evaluate_every: expected 0, for nothing is trained here, got {options.evaluate_every}")
