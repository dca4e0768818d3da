"""Micro-batches: groups of trees that go through the model together, limited by their number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zhenlong.forest.packing import Forest, TreeNode, pack_trees


@dataclass(frozen=True)
class Microbatch:
    """A packed micro-batch and the indices of the step's trees that it holds, in packing order."""

    forest: Forest
    tree_indices: list[int]


def microbatch_indices(lengths: Sequence[int], tokens_per_microbatch: int) -> list[list[int]]:
    """Split trees of `lengths` tokens into groups of at most `tokens_per_microbatch` tokens, similar sizes together.

    Returns lists of indices that contain every tree once. A tree larger than the budget forms its own group. Sorting by
    size keeps padding inside attention blocks small; the grouping never changes the gradient.
    """
    groups: list[list[int]] = []
    group_tokens = tokens_per_microbatch + 1
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if group_tokens + lengths[index] > tokens_per_microbatch:
            groups.append([])
            group_tokens = 0
        groups[-1].append(index)
        group_tokens += lengths[index]
    return groups


def make_microbatches(
    trees: Sequence[TreeNode], tokens_per_microbatch: int, device: torch.device | str = "cpu"
) -> list[Microbatch]:
    """Pack one step's trees into micro-batches of at most `tokens_per_microbatch` tokens each."""
    groups = microbatch_indices([node.num_tokens for node in trees], tokens_per_microbatch)
    return [Microbatch(pack_trees([trees[row] for row in group], device), group) for group in groups]
