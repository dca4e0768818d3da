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

from zhenlong.data import Mixture, Template, require_prompt_fits
from zhenlong.forest import Batch, Forest, Node, forward, log_probs, plant_batches, tree
from zhenlong.loop import Cost, Run
from zhenlong.records import Task
from zhenlong.rewards import Answer, Graded, Reward, grade
from zhenlong.sampling import Sampler, Sampling
from zhenlong.stages.setup import count_forward
from zhenlong.stages.trees import by_source, note_lengths, resized


@dataclass
class Group:
    """One prompt's rollouts: `record` is its task's number; `arrays` hold a value for each response token, [tokens]."""

    record: int
    prompt: list[int]
    responses: list[list[int]]
    texts: list[str]
    truncated: list[bool]
    rewards: list[float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    parts: dict[str, list[float | None]] = field(default_factory=dict)  # of the rewards, where they have any

    @property
    def tree(self) -> Node:
        """The prompt with one scored child for each response."""
        return tree(self.prompt, self.responses)

    @property
    def tokens(self) -> int:
        """Tokens of all responses."""
        return sum(map(len, self.responses))


class Buffer:
    """Groups waiting to be learned from: several passes, each in a new order, in minibatches."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.waiting: list[list[int]] = []

    def fill(self, groups: Sequence[Group], passes: int, minibatches: int, generator: torch.Generator) -> None:
        """Take new groups; `draw` then gives each one `passes` times, in `minibatches` parts of a pass."""
        self.groups = list(groups)
        for _ in range(passes):
            order = torch.randperm(len(groups), generator=generator).tolist()
            self.waiting += [part.tolist() for part in np.array_split(np.asarray(order, dtype=int), minibatches)]

    def draw(self) -> list[Group]:
        """The next minibatch; empty when there were fewer groups than minibatches."""
        return [self.groups[index] for index in self.waiting.pop(0)]

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a run can stop between two minibatches. Groups are shared: a step never changes them."""
        return {"groups": [vars(group) for group in self.groups], "waiting": [list(part) for part in self.waiting]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.groups = [Group(**group) for group in state["groups"]]
        self.waiting = [list(part) for part in state["waiting"]]


def fitting_prompts(
    run: Run,
    tasks: Sequence[Task],
    order: Mixture,
    template: Template,
    context: int,
    max_tokens: int,
    too_long: Literal["error", "drop"],
) -> tuple[list[Task], list[list[int]], Mixture]:
    """The tasks whose prompts leave room for `max_tokens` in the context, their ids, and the order to draw them in.

    Another one is a `UserError`, or is dropped and counted.
    """
    kept: list[Task] = []
    prompts: list[list[int]] = []
    sizes = []
    for records in by_source(tasks, order):
        before = len(kept)
        for number, task in enumerate(records, 1):
            ids = template.prompt(task.prompt)
            if too_long == "error":
                require_prompt_fits(ids, context, f"task {number}", max_tokens)
            elif len(ids) + max_tokens > context:
                continue
            kept.append(task)
            prompts.append(ids)
        sizes.append(len(kept) - before)
        note_lengths(run, 0, len(records) - sizes[-1])
    return kept, prompts, resized(order, sizes)


def rollout_sampling(run: Run, template: Template, temperature: float, max_tokens: int) -> Sampling:
    """How to sample in this step: over the whole vocabulary, so that log-probabilities are the policy's own."""
    seed = run.seed("rollout")
    return Sampling(temperature=temperature, max_tokens=max_tokens, stop_ids=template.stop_ids, seed=seed)


def token_log_probs(model: PreTrainedModel, temperature: float, forest: Forest) -> torch.Tensor:
    """The log-probability of each response token, [M]."""
    return log_probs(model, forward(model, forest), forest, temperature)


def roll_out(
    tasks: Sequence[Task],
    prompts: Sequence[list[int]],
    rows: Sequence[int],
    sampler: Sampler,
    sampling: Sampling,
    samples: int,
    reward: Reward,
) -> list[Group]:
    """Answer the prompts of `rows`, `samples` times each, and reward every answer."""
    found = sampler.sample([prompts[row] for row in rows], sampling, samples)
    groups = [
        Group(
            record=row,
            prompt=list(prompts[row]),
            responses=[list(one.ids) for one in group],
            texts=[one.text for one in group],
            truncated=[one.truncated for one in group],
            rewards=[],
            arrays={"old_log_probs": np.concatenate([np.asarray(one.log_probs, np.float32) for one in group])},
        )
        for row, group in zip(rows, found, strict=True)
    ]
    graded = grade(reward, answers_of(tasks, groups))
    for number, group in enumerate(groups):
        own = slice(number * samples, (number + 1) * samples)
        group.rewards = graded.values[own]
        group.parts = {name: list(column[own]) for name, column in graded.parts.items()}
    return groups


def answers_of(tasks: Sequence[Task], groups: Sequence[Group]) -> list[Answer]:
    """Every response of the groups, one after the other, as a reward sees it."""
    return [
        Answer(tasks[group.record], text, cut, len(ids))
        for group in groups
        for text, cut, ids in zip(group.texts, group.truncated, group.responses, strict=True)
    ]


def count_sampling(run: Run, cost: Cost, groups: Sequence[Group]) -> None:
    """Enter the sampling of the groups in the ledger: each prompt once, and every token of the responses."""
    sampled = sum(group.tokens for group in groups)
    read = sum(len(group.prompt) for group in groups)
    run.ledger.count(sampled_tokens=sampled, flops=cost.forward(read + sampled, sampled))


def add_array(
    name: str,
    groups: Sequence[Group],
    measure: Callable[[Forest], torch.Tensor],
    budget: int,
    run: Run,
    cost: Cost,
) -> None:
    """Give each group the array `name`: `measure` of its tokens, [M], without gradients; counted in the ledger."""
    with torch.no_grad():
        for batch in plant_batches([group.tree for group in groups], budget, run.device):
            values = measure(batch.forest).float().cpu().numpy()
            count_forward(run, cost, batch.forest)
            spread(name, [groups[row] for row in batch.rows], values)


def spread(name: str, groups: Sequence[Group], values: np.ndarray) -> None:
    """Hand flat values over the groups' tokens back to the groups, under `name`."""
    ends = np.cumsum([group.tokens for group in groups])
    for group, part in zip(groups, np.split(values, ends[:-1]), strict=True):
        group.arrays[name] = part


def gathered(name: str, groups: Sequence[Group], batch: Batch | None = None) -> torch.Tensor:
    """The array `name` of the groups one after the other, [M]; of those of a micro-batch, on its device, if given."""
    if batch is None:
        return torch.from_numpy(np.concatenate([group.arrays[name] for group in groups]))
    flat = np.concatenate([groups[row].arrays[name] for row in batch.rows])
    return torch.from_numpy(flat).to(batch.forest.tokens.device)


def leaf_of(groups: Sequence[Group]) -> tuple[torch.Tensor, int]:
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
        "truncated": float(np.mean([cut for group in groups for cut in group.truncated])),
        **part_means(groups),
    }


def part_means(groups: Sequence[Group]) -> dict[str, float]:
    """`reward/<part>`: the mean of each of several parts over the responses it was asked about."""
    names = list(groups[0].parts)
    columns = {name: [value for group in groups for value in group.parts[name]] for name in names}
    means = Graded([], columns).means() if len(names) > 1 else {}
    return {f"reward/{name}": value for name, value in means.items()}


def sample_rows(tasks: Sequence[Task], groups: Sequence[Group], most: int = 4) -> list[dict[str, Any]]:
    """Rows for samples.jsonl: the first response of the first few groups, with its reward."""
    return [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in tasks[group.record].prompt],
            "response": group.texts[0],
            "reward": group.rewards[0],
        }
        for group in groups[:most]
    ]
