"""Rollouts: prompts answered by the policy and rewarded, and the buffer from which updates draw them.

A group is one prompt with its sampled responses, and one tree of the forest: its prompt is computed once. Everything
known about its tokens is kept flat, over all responses of the group one after the other, in the order in which the
forest numbers scored tokens. Sampled ids are never tokenised again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from zhenlong.data import ChatTemplate, Mixture, require_prompt_fits
from zhenlong.forest import Forest, Microbatch, TreeNode, forward, log_probs, make_microbatches, make_tree
from zhenlong.loop import FlopEstimator, Run
from zhenlong.records import Task
from zhenlong.rewards import RewardBreakdown, RewardFn, TaskResponse, compute_rewards
from zhenlong.sampling import Sampler, SamplingParams
from zhenlong.stages.prepare_data import resize_order, split_by_source, write_overlong_counts
from zhenlong.stages.stage_steps import count_forward_cost


@dataclass
class Group:
    """One prompt's rollouts; `per_token` holds arrays with a value for each response token, [tokens]."""

    task_index: int
    prompt: list[int]
    responses: list[list[int]]
    texts: list[str]
    truncated: list[bool]
    rewards: list[float]
    per_token: dict[str, np.ndarray] = field(default_factory=dict)
    reward_components: dict[str, list[float | None]] = field(
        default_factory=dict
    )  # of the rewards, where they have any

    @property
    def tree(self) -> TreeNode:
        """The prompt with one scored child for each response."""
        return make_tree(self.prompt, self.responses)

    @property
    def num_tokens(self) -> int:
        """Tokens of all responses."""
        return sum(map(len, self.responses))


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
    max_tokens: int,
    overlong: Literal["error", "drop"],
) -> tuple[list[Task], list[list[int]], Mixture]:
    """The tasks whose prompts leave room for `max_tokens` in the context, their ids, and the order to draw them in.

    Another one is a `UserError`, or is dropped and counted.
    """
    fitting: list[Task] = []
    prompts: list[list[int]] = []
    sizes = []
    for records in split_by_source(tasks, order):
        before = len(fitting)
        for number, task in enumerate(records, 1):
            ids = template.encode_prompt(task.prompt)
            if overlong == "error":
                require_prompt_fits(ids, context_length, f"task {number}", max_tokens)
            elif len(ids) + max_tokens > context_length:
                continue
            fitting.append(task)
            prompts.append(ids)
        sizes.append(len(fitting) - before)
        write_overlong_counts(run, 0, len(records) - sizes[-1])
    return fitting, prompts, resize_order(order, sizes)


def rollout_sampling(run: Run, template: ChatTemplate, temperature: float, max_tokens: int) -> SamplingParams:
    """How to sample in this step: over the whole vocabulary, so that log-probabilities are the policy's own."""
    seed = run.step_seed("rollout")
    return SamplingParams(temperature=temperature, max_tokens=max_tokens, stop_token_ids=template.stop_ids, seed=seed)


def token_log_probs(model: PreTrainedModel, temperature: float, forest: Forest) -> torch.Tensor:
    """The log-probability of each response token, [M]."""
    return log_probs(model, forward(model, forest), forest, temperature)


def generate_rollouts(
    tasks: Sequence[Task],
    prompts: Sequence[list[int]],
    task_indices: Sequence[int],
    sampler: Sampler,
    sampling: SamplingParams,
    samples_per_prompt: int,
    reward_fn: RewardFn,
) -> list[Group]:
    """Answer the prompts of `task_indices`, `samples_per_prompt` times each, and reward every answer."""
    completions = sampler.sample([prompts[row] for row in task_indices], sampling, samples_per_prompt)
    groups = [
        Group(
            task_index=row,
            prompt=list(prompts[row]),
            responses=[list(one.token_ids) for one in group],
            texts=[one.text for one in group],
            truncated=[one.truncated for one in group],
            rewards=[],
            per_token={"old_log_probs": np.concatenate([np.asarray(one.log_probs, np.float32) for one in group])},
        )
        for row, group in zip(task_indices, completions, strict=True)
    ]
    graded = compute_rewards(reward_fn, answers_of(tasks, groups))
    for number, group in enumerate(groups):
        own = slice(number * samples_per_prompt, (number + 1) * samples_per_prompt)
        group.rewards = graded.rewards[own]
        group.reward_components = {name: list(column[own]) for name, column in graded.components.items()}
    return groups


def answers_of(tasks: Sequence[Task], groups: Sequence[Group]) -> list[TaskResponse]:
    """Every response of the groups, one after the other, as a reward sees it."""
    return [
        TaskResponse(tasks[group.task_index], text, cut, len(ids))
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
    name: str,
    groups: Sequence[Group],
    token_fn: Callable[[Forest], torch.Tensor],
    tokens_per_microbatch: int,
    run: Run,
    cost: FlopEstimator,
) -> None:
    """Give each group the values `name`: `token_fn` of its tokens, [M], without gradients; counted in the ledger."""
    with torch.no_grad():
        for batch in make_microbatches([group.tree for group in groups], tokens_per_microbatch, run.device):
            values = token_fn(batch.forest).float().cpu().numpy()
            count_forward_cost(run, cost, batch.forest)
            scatter_to_groups(name, [groups[row] for row in batch.tree_indices], values)


def scatter_to_groups(name: str, groups: Sequence[Group], values: np.ndarray) -> None:
    """Hand flat values over the groups' tokens back to the groups, under `name`."""
    ends = np.cumsum([group.num_tokens for group in groups])
    for group, part in zip(groups, np.split(values, ends[:-1]), strict=True):
        group.per_token[name] = part


def gather_from_groups(name: str, groups: Sequence[Group], batch: Microbatch | None = None) -> torch.Tensor:
    """The array `name` of the groups one after the other, [M]; of those of a micro-batch, on its device, if given."""
    if batch is None:
        return torch.from_numpy(np.concatenate([group.per_token[name] for group in groups]))
    flat = np.concatenate([groups[row].per_token[name] for row in batch.tree_indices])
    return torch.from_numpy(flat).to(batch.forest.tokens.device)


def response_index_of(groups: Sequence[Group]) -> tuple[torch.Tensor, int]:
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
