"""Rollouts: responses that the policy samples to prompts, their rewards, and the buffer that updates draw them from.

A group is one prompt with its sampled responses, and one tree of the forest: its prompt is computed once. Per-token
fields are flat, the responses of the group one after the other, in the order in which the forest numbers scored tokens.
Sampled ids are never tokenised again.

Shapes: M response tokens of R responses of all groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from zhenlong.data import ChatTemplate, Mixture, require_prompt_fits
from zhenlong.forest import Forest, Microbatch, TreeNode, forward, log_probs, make_microbatches, make_tree
from zhenlong.loop import FlopEstimator, Run
from zhenlong.records import Task
from zhenlong.rewards import RewardBreakdown, RewardFn, TaskResponse, compute_rewards
from zhenlong.sampling import Sampler, SamplingParams
from zhenlong.stages.options import SamplingOptions
from zhenlong.stages.prepare_data import resize_order, split_by_source, write_overlong_counts
from zhenlong.stages.stage_steps import count_forward_cost

NOT_COMPUTED: Final = np.empty(0, np.float32)


@dataclass
class Group:
    """One prompt with its sampled responses.

    The fields from `old_log_probs` on hold a value for each response token, [tokens]; a stage computes those it needs.
    """

    task_index: int
    prompt: list[int]
    responses: list[list[int]]
    texts: list[str]
    truncated: list[bool]
    rewards: list[float]
    reward_components: dict[str, list[float | None]] = field(default_factory=dict)
    old_log_probs: np.ndarray = field(default_factory=lambda: NOT_COMPUTED)  # of the policy that sampled
    reference_log_probs: np.ndarray = field(default_factory=lambda: NOT_COMPUTED)
    values: np.ndarray = field(default_factory=lambda: NOT_COMPUTED)  # the critic's, of the state before each token
    advantages: np.ndarray = field(default_factory=lambda: NOT_COMPUTED)
    returns: np.ndarray = field(default_factory=lambda: NOT_COMPUTED)
    loss_mask: np.ndarray = field(default_factory=lambda: NOT_COMPUTED)  # 1 where a token counts in the loss, else 0

    @property
    def tree(self) -> TreeNode:
        """The prompt with one scored child for each response."""
        return make_tree(self.prompt, self.responses)

    @property
    def num_tokens(self) -> int:
        """Tokens of all responses."""
        return sum(map(len, self.responses))

    @property
    def rewards_differ(self) -> bool:
        """Whether some response earned more than another; equal rewards have no advantage."""
        return len(set(self.rewards)) > 1


@dataclass(frozen=True)
class TokenFields:
    """The per-token fields of several groups, the groups one after the other: [M] each, [0] where not computed."""

    old_log_probs: Tensor
    reference_log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    loss_mask: Tensor

    @classmethod
    def of_groups(cls, groups: Sequence[Group], device: torch.device | str = "cpu") -> TokenFields:
        """The fields of the groups, in their order, on the device."""

        def flat(arrays: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(arrays)).to(device)

        return cls(
            old_log_probs=flat([group.old_log_probs for group in groups]),
            reference_log_probs=flat([group.reference_log_probs for group in groups]),
            values=flat([group.values for group in groups]),
            advantages=flat([group.advantages for group in groups]),
            returns=flat([group.returns for group in groups]),
            loss_mask=flat([group.loss_mask for group in groups]),
        )

    @classmethod
    def of_microbatch(cls, groups: Sequence[Group], microbatch: Microbatch) -> TokenFields:
        """The fields of those groups that a micro-batch holds, in the order of its scored tokens, on its device."""
        return cls.of_groups([groups[index] for index in microbatch.tree_indices], microbatch.forest.tokens.device)


@dataclass(frozen=True)
class PromptSet:
    """The tasks to sample for: their prompts' token ids, and the order to draw them in."""

    tasks: Sequence[Task]
    token_ids: Sequence[list[int]]
    order: Mixture


class RolloutBuffer:
    """Groups waiting to be learned from: several passes, each in a new order, in minibatches."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.pending: list[list[int]] = []

    def fill(
        self, groups: Sequence[Group], update_epochs: int, num_minibatches: int, generator: torch.Generator
    ) -> None:
        """Take new groups, to be drawn `update_epochs` times in `num_minibatches` minibatches each."""
        self.groups = list(groups)
        for _ in range(update_epochs):
            order = torch.randperm(len(groups), generator=generator).tolist()
            self.pending += [part.tolist() for part in np.array_split(np.asarray(order, dtype=int), num_minibatches)]

    def next_minibatch(self) -> list[Group]:
        """The next minibatch; empty when there were fewer groups than minibatches."""
        return [self.groups[index] for index in self.pending.pop(0)]

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a run can stop between two minibatches. Groups are shared: a step never changes them."""
        return {"groups": [vars(group) for group in self.groups], "pending": [list(part) for part in self.pending]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.groups = [Group(**group) for group in state["groups"]]
        self.pending = [list(part) for part in state["pending"]]


def tokenize_prompts(
    run: Run,
    tasks: Sequence[Task],
    order: Mixture,
    template: ChatTemplate,
    context_length: int,
    options: SamplingOptions,
) -> PromptSet:
    """The prompts that leave room for `max_tokens` in the context.

    A longer one raises `UserError`, or is dropped and counted.
    """
    fitting: list[Task] = []
    prompts: list[list[int]] = []
    sizes = []
    for records in split_by_source(tasks, order):
        before = len(fitting)
        for number, task in enumerate(records, 1):
            ids = template.encode_prompt(task.prompt)
            if options.overlong == "error":
                require_prompt_fits(ids, context_length, f"task {number}", options.max_tokens)
            elif len(ids) + options.max_tokens > context_length:
                continue
            fitting.append(task)
            prompts.append(ids)
        sizes.append(len(fitting) - before)
        write_overlong_counts(run, 0, len(records) - sizes[-1])
    return PromptSet(fitting, prompts, resize_order(order, sizes))


def rollout_sampling(run: Run, template: ChatTemplate, options: SamplingOptions) -> SamplingParams:
    """How to sample in this step: over the whole vocabulary, so that log-probabilities are the policy's own."""
    return SamplingParams(
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        stop_token_ids=template.stop_ids,
        seed=run.step_seed("rollout"),
    )


def token_log_probs(model: PreTrainedModel, temperature: float, forest: Forest) -> Tensor:
    """The log-probability of each response token, [M]."""
    return log_probs(model, forward(model, forest), forest, temperature)


def generate_rollouts(
    prompts: PromptSet,
    task_indices: Sequence[int],
    sampler: Sampler,
    sampling: SamplingParams,
    samples_per_prompt: int,
    reward_fn: RewardFn,
) -> list[Group]:
    """Sample `samples_per_prompt` responses to the prompt of each task, and reward every response."""
    completions = sampler.sample([prompts.token_ids[index] for index in task_indices], sampling, samples_per_prompt)
    groups = [
        Group(
            task_index=index,
            prompt=list(prompts.token_ids[index]),
            responses=[list(one.token_ids) for one in group],
            texts=[one.text for one in group],
            truncated=[one.truncated for one in group],
            rewards=[],
            old_log_probs=np.concatenate([np.asarray(one.log_probs, np.float32) for one in group]),
        )
        for index, group in zip(task_indices, completions, strict=True)
    ]
    graded = compute_rewards(reward_fn, task_responses(prompts.tasks, groups))
    for number, group in enumerate(groups):
        own = slice(number * samples_per_prompt, (number + 1) * samples_per_prompt)
        group.rewards = graded.rewards[own]
        group.reward_components = {name: list(column[own]) for name, column in graded.components.items()}
    return groups


def task_responses(tasks: Sequence[Task], groups: Sequence[Group]) -> list[TaskResponse]:
    """Every response of the groups, one after the other, as a reward function takes it."""
    return [
        TaskResponse(tasks[group.task_index], text, cut, len(ids), ids)
        for group in groups
        for text, cut, ids in zip(group.texts, group.truncated, group.responses, strict=True)
    ]


def count_sampling_cost(run: Run, cost: FlopEstimator, groups: Sequence[Group]) -> None:
    """Enter the sampling of the groups in the ledger: each prompt once, and every token of the responses."""
    response_tokens = sum(group.num_tokens for group in groups)
    prompt_tokens = sum(len(group.prompt) for group in groups)
    run.ledger.count(
        sampled_tokens=response_tokens, flops=cost.forward(prompt_tokens + response_tokens, response_tokens)
    )


def compute_per_token(
    run: Run,
    groups: Sequence[Group],
    token_fn: Callable[[Forest], Tensor],
    tokens_per_microbatch: int,
    cost: FlopEstimator,
) -> list[np.ndarray]:
    """`token_fn` (forest -> [M]) of each group's tokens, [tokens], without gradients; its cost enters the ledger."""
    arrays: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for batch in make_microbatches([group.tree for group in groups], tokens_per_microbatch, run.device):
            values = token_fn(batch.forest).float().cpu()
            count_forward_cost(run, cost, batch.forest)
            own = split_by_group(values, [groups[index] for index in batch.tree_indices])
            arrays |= dict(zip(batch.tree_indices, own, strict=True))
    return [arrays[index] for index in range(len(groups))]


def split_by_group(values: Tensor, groups: Sequence[Group]) -> list[np.ndarray]:
    """Flat values [M] over the tokens of the groups, cut into each group's own."""
    ends = np.cumsum([group.num_tokens for group in groups])
    return np.split(values.numpy(), ends[:-1])


def response_index_of(groups: Sequence[Group]) -> tuple[Tensor, int]:
    """The response that each token belongs to, [M], and the number of responses, over all groups."""
    lengths = [len(response) for group in groups for response in group.responses]
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)), len(lengths)


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over the responses: reward and its spread, length, the share cut off, the reward's parts."""
    rewards = np.asarray([reward for group in groups for reward in group.rewards])
    lengths = [len(response) for group in groups for response in group.responses]
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "response_tokens": float(np.mean(lengths)),
        "truncated_fraction": float(np.mean([cut for group in groups for cut in group.truncated])),
        **reward_component_means(groups),
    }


def reward_component_means(groups: Sequence[Group]) -> dict[str, float]:
    """`reward/<part>`: the mean of each of several parts over the responses it was asked about."""
    names = list(groups[0].reward_components)
    columns = {name: [value for group in groups for value in group.reward_components[name]] for name in names}
    means = RewardBreakdown([], columns).component_means() if len(names) > 1 else {}
    return {f"reward/{name}": value for name, value in means.items()}


def sample_rows(tasks: Sequence[Task], groups: Sequence[Group], limit: int = 4) -> list[dict[str, Any]]:
    """Rows for samples.jsonl: the first response of the first few groups, with its reward."""
    return [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in tasks[group.task_index].prompt],
            "response": group.texts[0],
            "reward": group.rewards[0],
        }
        for group in groups[:limit]
    ]
