"""What a model answers, and what the answers are worth: exact match by a verifier, mean reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import Template
from zhenlong.errors import UserError
from zhenlong.evaluate.scoring import context_of
from zhenlong.evaluate.statistics import interval
from zhenlong.evaluate.subject import Subject, opened
from zhenlong.loop.randomness import evaluating
from zhenlong.records import Task
from zhenlong.rewards import Answer, Reward
from zhenlong.sampling import Completion, Sampling, TorchSampler
from zhenlong.verify import verify


@dataclass(frozen=True)
class Responses:
    """For each task its prompt as ids and the `n` completions sampled after it."""

    tasks: Sequence[Task]
    prompts: list[list[int]]
    completions: list[list[Completion]]

    @property
    def answers(self) -> list[Answer]:
        """Every completion as an answer to its task, task after task."""
        pairs = zip(self.tasks, self.completions, strict=True)
        return [Answer(task, one.text, one.truncated, len(one.ids)) for task, several in pairs for one in several]

    def describe(self) -> dict[str, float]:
        """`mean_response_tokens` (the end of turn included) and `truncated`, a share of all responses."""
        every = [one for several in self.completions for one in several]
        return {
            "mean_response_tokens": float(np.mean([len(one.ids) for one in every])),
            "truncated": float(np.mean([one.truncated for one in every])),
        }


def respond(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    sampling: Sampling,
    *,
    chat_template: str = "auto",
    n: int = 1,
) -> Responses:
    """Sample `n` answers to each task, ended by the template's end of turn. Modes and random states are kept."""
    template = Template.of(tokenizer, chat_template)
    prompts = [template.prompt(task.prompt) for task in tasks]
    ending = replace(sampling, stop_ids=(*sampling.stop_ids, *template.stop_ids))
    with evaluating(network):
        return Responses(tasks, prompts, TorchSampler(network, tokenizer).sample(prompts, ending, n))


def exact_match(
    model: Subject,
    tasks: Sequence[Task],
    *,
    samples: int = 1,
    temperature: float = 0.0,
    max_tokens: int = 256,
    chat_template: str = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """How often the tasks' own verifiers accept a sampled answer; temperature 0 takes the likeliest tokens.

    Returns `{"exact_match": {"mean", "ci95", "n"}, "mean_response_tokens", "truncated", "too_long"}`, the
    last counting prompts without room for an answer. With several `samples` a task's value is the mean over them, an
    unbiased pass@1, and `n` counts tasks.
    """
    return _sampled_mean(
        "exact_match",
        model,
        tasks,
        lambda answers: [verify(answer.task, answer.text) for answer in answers],
        Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed),
        chat_template,
        samples,
    )


def mean_reward(
    model: Subject,
    tasks: Sequence[Task],
    reward: Reward,
    *,
    samples: int = 1,
    temperature: float = 1.0,
    max_tokens: int = 128,
    chat_template: str = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """The mean reward of sampled answers: `{"reward": {...}, "mean_response_tokens", "truncated", "too_long"}`."""
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    return _sampled_mean("reward", model, tasks, reward, sampling, chat_template, samples)


def _sampled_mean(
    name: str, model: Subject, tasks: Sequence[Task], value: Reward, sampling: Sampling, template: str, samples: int
) -> dict[str, Any]:
    network, tokenizer = opened(model)
    kept = _fitting(tasks, Template.of(tokenizer, template), context_of(network), sampling.max_tokens)
    if not kept:
        raise UserError(
            f"{name}: no prompt leaves room for {sampling.max_tokens} tokens in the context; lower max_tokens"
        )
    found = respond(network, tokenizer, kept, sampling, chat_template=template, n=samples)
    means = np.asarray(value(found.answers), dtype=np.float64).reshape(len(kept), samples).mean(1)  # [tasks]
    too_long = len(tasks) - len(kept)
    return {name: interval(means, sampling.seed).as_json(), **found.describe(), "too_long": too_long}


def _fitting(tasks: Sequence[Task], template: Template, context: int | None, room: int) -> list[Task]:
    """The tasks whose prompts leave `room` tokens of the context for an answer."""
    return [task for task in tasks if context is None or len(template.prompt(task.prompt)) + room <= context]
