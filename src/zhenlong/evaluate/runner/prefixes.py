"""What many token sequences share is computed once: their common beginnings become the inner nodes of token trees.

The few-shot part of a prompt is shared by all questions, a question by its options, and two options that begin alike
share that too. The last token of a sequence is predicted and never read, so options of one token cost nothing.

Shapes: M scored tokens of a batch, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zhenlong.evaluate.runner.tokens import Query
from zhenlong.forest import Forest, Node, plant

WORTH: Final = 16  # tokens that a shared beginning must save to become a node of its own
KEYS: Final = 16  # attended tokens that take the memory of one computed token

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Planted:
    """Queries as one forest: their numbers are `members`, and `owner` [M] is each scored token's place among these."""

    forest: Forest
    members: list[int]
    owner: torch.Tensor


@dataclass
class _Sprout:
    """A node while the tree grows: its tokens, what continues it, and its number in planting order."""

    tokens: Ids
    children: list[_Sprout]
    number: int = -1


def planted(queries: Sequence[Query], budget: int, device: torch.device | str = "cpu") -> Iterator[Planted]:
    """The queries in forests of about `budget` tokens each, those that begin alike together."""
    read = [np.asarray(query.ids[:-1], dtype=np.int64) for query in queries]  # the last token is only predicted
    for members in _batches(read, budget):
        yield _plant(queries, read, members, device)


def common(a: Ids, b: Ids) -> int:
    """How many tokens two sequences have in common from their first on."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


def _batches(read: Sequence[Ids], budget: int) -> Iterator[list[int]]:
    """Numbers of sequences, in the order of their tokens, cut where the tokens they do not share exceed the budget."""
    order = sorted(range(len(read)), key=lambda number: read[number].astype(">u4").tobytes())
    members: list[int] = []
    filled = 0.0
    for number in order:
        ids = read[number]
        cost = len(ids) - (common(read[members[-1]], ids) if members else 0) + len(ids) / KEYS
        if members and filled + cost > budget:
            yield members
            members, filled, cost = [], 0.0, len(ids) * (1 + 1 / KEYS)
        members.append(number)
        filled += cost
    if members:
        yield members


def _plant(queries: Sequence[Query], read: Sequence[Ids], members: list[int], device: torch.device | str) -> Planted:
    paths: dict[int, list[_Sprout]] = {number: [] for number in members}
    roots = _grow(read, members, 0, paths)
    _number(roots)
    forest = plant([_node(root) for root in roots], device)
    starts = [segment.start for segment in forest.segments]
    sources, targets, owners = [], [], []
    for place, number in enumerate(members):
        query = queries[number]
        flat = np.concatenate([starts[one.number] + np.arange(len(one.tokens)) for one in paths[number]])
        sources.append(flat[query.start - 1 :])
        targets.append(np.asarray(query.ids[query.start :], dtype=np.int64))
        owners.append(np.full(len(targets[-1]), place))
    source, target, owner = (
        torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device) for parts in (sources, targets, owners)
    )
    return Planted(replace(forest, source=source, target=target), members, owner)


def _grow(read: Sequence[Ids], members: Sequence[int], depth: int, paths: dict[int, list[_Sprout]]) -> list[_Sprout]:
    """Nodes for sorted sequences that agree up to `depth`, where their common parent ends."""
    return [node for group in _alike(read, members, depth) for node in _cluster(read, group, depth, paths)]


def _cluster(read: Sequence[Ids], group: list[int], depth: int, paths: dict[int, list[_Sprout]]) -> list[_Sprout]:
    """One node for what a group has in common, or, where that is not worth a node, nodes for the group's parts."""
    shared = common(read[group[0]], read[group[-1]])  # they are sorted, so all share what the outermost do
    ended = [number for number in group if len(read[number]) == shared]
    longer = [number for number in group if len(read[number]) > shared]
    if longer and (shared - depth) * (len(group) - 1) < WORTH:
        parts = [*([ended] if ended else []), *_alike(read, longer, shared)]
        return [node for part in parts for node in _cluster(read, part, depth, paths)]
    node = _Sprout(read[group[0]][depth:shared], [])
    for number in group:
        paths[number].append(node)
    node.children = _grow(read, longer, shared, paths)
    return [node]


def _alike(read: Sequence[Ids], members: Sequence[int], depth: int) -> Iterator[list[int]]:
    """Sorted sequences that are longer than `depth`, in groups with the same token there."""
    group: list[int] = []
    for number in members:
        if len(read[number]) <= depth:
            continue
        if group and read[group[-1]][depth] != read[number][depth]:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _number(roots: Sequence[_Sprout]) -> None:
    """Number the nodes as planting lays them out: depth first, parents before children."""
    stack = list(reversed(roots))
    count = 0
    while stack:
        node = stack.pop()
        node.number = count
        count += 1
        stack.extend(reversed(node.children))


def _node(sprout: _Sprout) -> Node:
    return Node(sprout.tokens, False, tuple(_node(child) for child in sprout.children))  # type: ignore[arg-type]
