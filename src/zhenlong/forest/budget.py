"""Which trees go through the model together: by their number of tokens, never by their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zhenlong.forest.planting import Forest, Node, plant


@dataclass(frozen=True)
class Batch:
    """A planted micro-batch and the rows of the step that it holds, in planting order."""

    forest: Forest
    rows: list[int]


def micro_batches(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Cut records of `sizes` tokens into groups of at most `budget` tokens, similar sizes together.

    Returns lists of indices that cover every record once. A record larger than the budget is a group of its own.
    Sorting by size keeps the padding inside attention blocks small; which records share a group never changes the
    gradient.
    """
    groups: list[list[int]] = []
    filled = budget + 1
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if filled + sizes[index] > budget:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += sizes[index]
    return groups


def plant_batches(trees: Sequence[Node], budget: int, device: torch.device | str = "cpu") -> list[Batch]:
    """Plant one step's trees as micro-batches of at most `budget` tokens each."""
    groups = micro_batches([node.size for node in trees], budget)
    return [Batch(plant([trees[row] for row in group], device), group) for group in groups]
