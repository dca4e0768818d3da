"""Sampled responses and their metrics: exact match by a verifier, mean reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.forest.scoring import model_context_length
from zhenlong.models.model_argument import ModelLike, load_if_named
from zhenlong.randomness import eval_mode
from zhenlong.records import Task
from zhenlong.rewards import RewardFn, TaskResponse
from zhenlong.sampling import Completion, SamplingParams, TorchSampler
from zhenlong.verify import verify

GREEDY: Final = SamplingParams(temperature=0.0, max_tokens=256)
SAMPLED: Final = SamplingParams()


@dataclass(frozen=True)
class SampledResponses:
    """For each task, its prompt ids and `n` sampled completions."""

    tasks: Sequence[Task]
    prompts: list[list[int]]
    completions: list[list[Completion]]

    @property
    def answers(self) -> list[TaskResponse]:
        """Every completion as a response to its task, in task order."""
        pairs = zip(self.tasks, self.completions, strict=True)
        return [
            TaskResponse(task, one.text, one.truncated, len(one.token_ids), one.token_ids)
            for task, several in pairs
            for one in several
        ]

    def describe(self) -> dict[str, float]:
        """`mean_response_tokens` (end-of-turn token included) and `truncated`, a fraction of all responses."""
        every = [one for several in self.completions for one in several]
        return {
            "mean_response_tokens": float(np.mean([len(one.token_ids) for one in every])),
            "truncated": float(np.mean([one.truncated for one in every])),
        }


def sample_responses(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    sampling: SamplingParams,
    *,
    chat_template: str = "auto",
    samples_per_prompt: int = 1,
) -> SampledResponses:
    """Sample `n` responses per task, up to the template's end of turn. Leaves modes and RNG states unchanged."""
    template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
    prompts = [template.encode_prompt(task.prompt) for task in tasks]
    ending = replace(sampling, stop_token_ids=(*sampling.stop_token_ids, *template.stop_ids))
    with eval_mode(network):
        return SampledResponses(
            tasks, prompts, TorchSampler(network, tokenizer).sample(prompts, ending, samples_per_prompt)
        )


def exact_match(
    model: ModelLike,
    tasks: Sequence[Task],
    *,
    sampling: SamplingParams = GREEDY,
    samples_per_prompt: int = 1,
    chat_template: str = "auto",
) -> dict[str, Any]:
    """The fraction of sampled responses that the tasks' verifiers accept; greedy decoding by default.

    Returns `{"exact_match": {"mean", "ci95", "n"}, "mean_response_tokens", "truncated", "overlong"}`; `overlong` counts
    prompts that leave no room for a response. A task's value is the mean over its samples, an unbiased pass@1; `n`
    counts tasks.
    """
    return _mean_over_samples(
        "exact_match",
        model,
        tasks,
        lambda answers: [verify(answer.task, answer.text) for answer in answers],
        sampling,
        chat_template=chat_template,
        samples_per_prompt=samples_per_prompt,
    )


def mean_reward(
    model: ModelLike,
    tasks: Sequence[Task],
    reward: RewardFn,
    *,
    sampling: SamplingParams = SAMPLED,
    samples_per_prompt: int = 1,
    chat_template: str = "auto",
) -> dict[str, Any]:
    """The mean reward of sampled responses: `{"reward": {...}, "mean_response_tokens", "truncated", "overlong"}`."""
    return _mean_over_samples(
        "reward", model, tasks, reward, sampling, chat_template=chat_template, samples_per_prompt=samples_per_prompt
    )


def _mean_over_samples(
    name: str,
    model: ModelLike,
    tasks: Sequence[Task],
    reward_fn: RewardFn,
    sampling: SamplingParams,
    *,
    chat_template: str,
    samples_per_prompt: int,
) -> dict[str, Any]:
    network, tokenizer = load_if_named(model)
    template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
    fitting = _fitting_tasks(tasks, template, model_context_length(network), sampling.max_tokens)
    if not fitting:
        raise UserError(
            f"{name}: no prompt leaves room for {sampling.max_tokens} tokens in the context; lower max_tokens"
        )
    found = sample_responses(
        network, tokenizer, fitting, sampling, chat_template=chat_template, samples_per_prompt=samples_per_prompt
    )
    means = (
        np.asarray(reward_fn(found.answers), dtype=np.float64).reshape(len(fitting), samples_per_prompt).mean(1)
    )  # [tasks]
    overlong = len(tasks) - len(fitting)
    return {name: mean_interval(means, sampling.seed).as_json(), **found.describe(), "overlong": overlong}


def _fitting_tasks(tasks: Sequence[Task], template: ChatTemplate, context: int | None, max_tokens: int) -> list[Task]:
    """The tasks whose prompts leave `max_tokens` of the context for a response."""
    return [
        task for task in tasks if context is None or len(template.encode_prompt(task.prompt)) + max_tokens <= context
    ]
