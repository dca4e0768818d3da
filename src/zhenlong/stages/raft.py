"""From rewards without reinforcement: answer prompts, keep the answers worth imitating, fine-tune on them, repeat.

With `keep best` it is rejection-sampling fine-tuning (RAFT): the best of several answers to each prompt. With
`keep correct` it is expert iteration on tasks that can be verified: all answers that are right, each once. The kept
answers are learned as the ids that were sampled, and every round samples from the model as it then is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zhenlong.data import Template
from zhenlong.errors import UserError
from zhenlong.forest import plant_batches
from zhenlong.loop import Cost, Learner, Options, Run
from zhenlong.models import save_model
from zhenlong.records import Task
from zhenlong.rewards import reward_from
from zhenlong.sampling import TorchSampler
from zhenlong.stages.evaluations import evaluated
from zhenlong.stages.pretrain import token_loss
from zhenlong.stages.rollout import (
    Buffer,
    Group,
    count_sampling,
    fitting_prompts,
    roll_out,
    rollout_metrics,
    rollout_sampling,
    sample_rows,
)
from zhenlong.stages.selection import best_answer, only, right_answers
from zhenlong.stages.setup import context_of, load, ready, update
from zhenlong.stages.trees import read_all

Keep = Literal["best", "correct"]


def raft(
    *,
    model: str,
    data: str,
    output: str,
    reward: str = "verifier",
    keep: Keep = "best",
    threshold: float | None = None,
    most: int = 4,
    samples: int = 8,
    rollouts: int = 128,
    passes: int = 1,
    keep_truncated: bool = False,
    max_tokens: int = 256,
    temperature: float = 1.0,
    too_long: Literal["error", "drop"] = "error",
    chat_template: str = "auto",
    skip_bad_rows: bool = False,
    lr: float = 1e-5,
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "constant",
    **training: Any,
) -> Path:
    """Fine-tune a model on the best of its own answers, or on those that are right, round after round.

    Args:
        model: Model to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.
        data: Tasks (prompts with references): files, hf:owner/name or world:tasks.
        output: Run folder to make.
        reward: What an answer is worth: verifier, model:<folder>, or a combination such as `gate(verifier, model:rm)`.
        keep: The best answer to each prompt (RAFT), or every different one that is correct (expert iteration).
        threshold: Least reward of an answer to keep; not given: none for best, 1 for correct.
        most: Correct answers to one prompt kept in a round, so that easy prompts do not outweigh hard ones; 0 all.
        samples: Answers to each prompt.
        rollouts: Prompts answered in a round.
        passes: Times that each round's answers are learned from.
        keep_truncated: Keep answers that were cut off at max_tokens too; they do not teach to end.
        max_tokens: Longest answer.
        temperature: Sampling temperature.
        too_long: What to do with a prompt that leaves no room for max_tokens: stop with an error, or drop and count it.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        schedule: Learning rate after the warm-up.

    Returns the run folder. Equation: L = -1/T Σ log π(y_t | x, y_<t) over the kept answers y (Dong et al. 2023).
    """
    config = dict(locals())
    options = Options(lr=lr, schedule=schedule, **training)
    least = threshold if threshold is not None else (1.0 if keep == "correct" else -math.inf)
    _check(config)
    with Run(output, config, options, "raft") as run:
        if run.finished:
            return run.output
        tasks, order = read_all(run, data, Task, options)
        policy, tokenizer = load(model, options, dropout=False)
        template = Template.of(tokenizer, chat_template)
        tasks, prompts, order = fitting_prompts(run, tasks, order, template, context_of(policy), max_tokens, too_long)
        worth = reward_from(reward, device=options.device)
        sampler = TorchSampler(policy, tokenizer)
        minibatches = max(1, math.ceil(rollouts / options.batch_size))
        total = options.steps or math.ceil(options.epochs * order.epoch / rollouts) * passes * minibatches
        learner, cost, buffer = Learner(policy, options, total), Cost.of(policy), Buffer()
        run.track(learner=learner, order=order, buffer=buffer)
        for _ in evaluated(run, policy, tokenizer, run.steps(total), chat_template):
            if not buffer.waiting:
                with run.evaluation(), learner.autocast():
                    sampling = rollout_sampling(run, template, temperature, max_tokens)
                    groups = roll_out(tasks, prompts, order.draw(rollouts), sampler, sampling, samples, worth)
                count_sampling(run, cost, groups)
                kept = kept_groups(groups, keep, least, most, keep_truncated)
                run.log(rollout_metrics(groups) | _kept_metrics(groups, kept))
                buffer.fill(kept, passes, minibatches, run.generator("minibatches"))
            if run.sampling_now():
                run.samples(sample_rows(tasks, buffer.groups))
            run.log(_learn(run, learner, cost, buffer.draw(), policy))
        return run.finish(*ready(policy, template), save_model)


def kept_groups(groups: Sequence[Group], keep: Keep, least: float, most: int, cut: bool = False) -> list[Group]:
    """The groups that have answers to keep, with those alone. `cut` keeps answers that were cut off as well."""
    seen: set[tuple[int, str]] = set()
    found = []
    for group in groups:
        if keep == "best":
            places = [place for place in best_answer(group, cut) if group.rewards[place] >= least]
        else:
            places = right_answers(group, least, most, seen, cut)
        if places:
            found.append(only(group, places))
    return found


def _learn(run: Run, learner: Learner, cost: Cost, groups: Sequence[Group], policy: Any) -> dict[str, float]:
    """One update from a minibatch of groups; none where nothing was kept."""
    if not groups:
        return {"idle": 1.0}
    batches = plant_batches([group.tree for group in groups], learner.options.tokens_per_microbatch, run.device)
    count = float(sum(group.tokens for group in groups))
    return update(run, learner, cost, batches, partial(token_loss, policy), count, [group.record for group in groups])


def _kept_metrics(groups: Sequence[Group], kept: Sequence[Group]) -> dict[str, float]:
    """What was kept of a round: the share of prompts, the answers, and their mean reward (none without answers)."""
    rewards = [reward for group in kept for reward in group.rewards]
    found = {"kept_prompts": len(kept) / len(groups), "kept_answers": float(len(rewards))}
    return found | ({"kept_reward": float(np.mean(rewards))} if rewards else {})


def _check(config: dict[str, Any]) -> None:
    for name in ("samples", "rollouts", "passes", "max_tokens"):
        if config[name] < 1:
            raise UserError(f"{name}: expected a whole number of 1 or more, got {config[name]}")
    if config["most"] < 0:
        raise UserError(f"most: expected a whole number of 0 or more, got {config['most']}")
    if config["threshold"] is not None and not math.isfinite(config["threshold"]):
        raise UserError(f"threshold: expected a finite number, got {config['threshold']}")
    if not 0 < config["temperature"] < math.inf:
        raise UserError(f"temperature: expected a finite number above 0, got {config['temperature']}")
