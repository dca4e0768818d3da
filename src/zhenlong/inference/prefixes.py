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

from zhenlong.forest import Forest, TreeNode, pack_trees
from zhenlong.inference.tokens import ScoredSequence

MIN_SHARED_TOKENS: Final = 16  # tokens that a shared beginning must save to become a node of its own
ATTENDED_PER_COMPUTED_TOKEN: Final = 16  # attended tokens that take the memory of one computed token

TokenIds = NDArray[np.int64]


@dataclass(frozen=True)
class PrefixBatch:
    """Queries as one forest: their numbers are `members`, and `owner` [M] is each scored token's place among these."""

    forest: Forest
    sequence_indices: list[int]
    sequence_of_token: torch.Tensor


@dataclass
class _PrefixNode:
    """A node while the tree grows: its tokens, what continues it, and its number in packing order."""

    tokens: TokenIds
    children: list[_PrefixNode]
    number: int = -1


def prefix_batches(
    sequences: Sequence[ScoredSequence], budget: int, device: torch.device | str = "cpu"
) -> Iterator[PrefixBatch]:
    """The queries in forests of about `budget` tokens each, those that begin alike together."""
    input_ids = [np.asarray(query.ids[:-1], dtype=np.int64) for query in sequences]  # the last token is only predicted
    for members in _batches(input_ids, budget):
        yield _pack_batch(sequences, input_ids, members, device=device)


def common_prefix_length(a: TokenIds, b: TokenIds) -> int:
    """How many tokens two sequences have in common from their first on."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


def _batches(input_ids: Sequence[TokenIds], budget: int) -> Iterator[list[int]]:
    """Numbers of sequences, in the order of their tokens, cut where the tokens they do not share exceed the budget."""
    order = sorted(range(len(input_ids)), key=lambda number: input_ids[number].astype(">u4").tobytes())
    members: list[int] = []
    filled = 0.0
    for number in order:
        ids = input_ids[number]
        cost = (
            len(ids)
            - (common_prefix_length(input_ids[members[-1]], ids) if members else 0)
            + len(ids) / ATTENDED_PER_COMPUTED_TOKEN
        )
        if members and filled + cost > budget:
            yield members
            members, filled, cost = [], 0.0, len(ids) * (1 + 1 / ATTENDED_PER_COMPUTED_TOKEN)
        members.append(number)
        filled += cost
    if members:
        yield members


def _pack_batch(
    sequences: Sequence[ScoredSequence],
    input_ids: Sequence[TokenIds],
    members: list[int],
    *,
    device: torch.device | str,
) -> PrefixBatch:
    paths: dict[int, list[_PrefixNode]] = {number: [] for number in members}
    roots = _build_nodes(input_ids, members, 0, paths=paths)
    _number_nodes(roots)
    forest = pack_trees([_to_forest_node(root) for root in roots], device)
    starts = [segment.start for segment in forest.segments]
    sources, targets, owners = [], [], []
    for place, number in enumerate(members):
        query = sequences[number]
        flat = np.concatenate([starts[one.number] + np.arange(len(one.tokens)) for one in paths[number]])
        sources.append(flat[query.start - 1 :])
        targets.append(np.asarray(query.ids[query.start :], dtype=np.int64))
        owners.append(np.full(len(targets[-1]), place))
    source, target, owner = (
        torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device) for parts in (sources, targets, owners)
    )
    return PrefixBatch(replace(forest, source=source, target=target), members, owner)


def _build_nodes(
    input_ids: Sequence[TokenIds], members: Sequence[int], depth: int, *, paths: dict[int, list[_PrefixNode]]
) -> list[_PrefixNode]:
    """Nodes for sorted sequences that agree up to `depth`, where their common parent ends."""
    return [
        node
        for group in _group_by_token(input_ids, members, depth)
        for node in _build_group(input_ids, group, depth, paths=paths)
    ]


def _build_group(
    input_ids: Sequence[TokenIds], group: list[int], depth: int, *, paths: dict[int, list[_PrefixNode]]
) -> list[_PrefixNode]:
    """One node for what a group has in common, or, where that is not worth a node, nodes for the group's parts."""
    shared = common_prefix_length(
        input_ids[group[0]], input_ids[group[-1]]
    )  # they are sorted, so all share what the outermost do
    ended = [number for number in group if len(input_ids[number]) == shared]
    longer = [number for number in group if len(input_ids[number]) > shared]
    if longer and (shared - depth) * (len(group) - 1) < MIN_SHARED_TOKENS:
        parts = [*([ended] if ended else []), *_group_by_token(input_ids, longer, shared)]
        return [node for part in parts for node in _build_group(input_ids, part, depth, paths=paths)]
    node = _PrefixNode(input_ids[group[0]][depth:shared], [])
    for number in group:
        paths[number].append(node)
    node.children = _build_nodes(input_ids, longer, shared, paths=paths)
    return [node]


def _group_by_token(input_ids: Sequence[TokenIds], members: Sequence[int], depth: int) -> Iterator[list[int]]:
    """Sorted sequences that are longer than `depth`, in groups with the same token there."""
    group: list[int] = []
    for number in members:
        if len(input_ids[number]) <= depth:
            continue
        if group and input_ids[group[-1]][depth] != input_ids[number][depth]:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _number_nodes(roots: Sequence[_PrefixNode]) -> None:
    """Number the nodes as planting lays them out: depth first, parents before children."""
    stack = list(reversed(roots))
    count = 0
    while stack:
        node = stack.pop()
        node.number = count
        count += 1
        stack.extend(reversed(node.children))


def _to_forest_node(prefix_node: _PrefixNode) -> TreeNode:
    return TreeNode(prefix_node.tokens, False, tuple(_to_forest_node(child) for child in prefix_node.children))  # type: ignore[arg-type]
