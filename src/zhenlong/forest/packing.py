"""The token forest: a batch of trees of token segments, packed into one sequence without padding.

A conversation to imitate is a tree of one node; a preference pair is a prompt with two children, a ranking has K, a
group of sampled responses G. Trees may be deeper, and any node may hold scored tokens. Packing places all nodes one
after another, parents before children, so that a shared token is computed once for all of its continuations. The trees
of a step are packed into micro-batches, which are limited by their number of tokens.

Shapes: N tokens, S segments, M scored tokens, R responses (segments that hold scored tokens).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from zhenlong.forest.attention_metadata import AttentionMetadata, QuerySubset, Span

OutputPositions = Literal["scored", "response_ends"]  # positions that predict scored tokens, or response ends


@dataclass(frozen=True)
class TreeNode:
    """A sequence of tokens, which of them are scored (predicted from the token before), and its continuations."""

    tokens: Sequence[int]
    scored: Sequence[bool] | bool = False
    children: tuple[TreeNode, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens in this node and all nodes below it: what the tree costs in a micro-batch."""
        return len(self.tokens) + sum(child.num_tokens for child in self.children)

    @property
    def num_scored(self) -> int:
        """Scored tokens in this node and all nodes below it."""
        own = (len(self.tokens) if self.scored else 0) if isinstance(self.scored, bool) else sum(self.scored)
        return own + sum(child.num_scored for child in self.children)


def make_tree(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> TreeNode:
    """An unscored prompt with one fully scored child per response."""
    return TreeNode(prompt, False, tuple(TreeNode(response, True) for response in responses))


@dataclass(frozen=True)
class Segment:
    """A packed node: `start` and `length` in the packed batch, parent segment (-1 for a root), tree."""

    start: int
    length: int
    parent: int
    tree: int


@dataclass
class Forest:
    """A packed batch of trees.

    tokens [N]; positions [N], restarting with each tree and continuing from parent to child; source [M], the packed
    index whose hidden state predicts a scored token; target [M], the token id to predict; response_index [M], the
    response of the target; response_tree [R], the tree of each response; response_end [R], the packed index of its last
    token. Responses are numbered in packing order, depth first.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    segments: list[Segment]
    source: torch.Tensor
    target: torch.Tensor
    response_index: torch.Tensor
    response_tree: torch.Tensor
    response_end: torch.Tensor
    output_indices: dict[OutputPositions, np.ndarray] = field(
        repr=False
    )  # packed indices of each kind of output positions
    attention_calls: int = 0  # number of calls of the forest's attention
    last_layer_tokens: int = 0  # positions that the last layer computed in the latest forward pass
    _attention_metadata: AttentionMetadata | None = field(default=None, repr=False)
    _query_subsets: dict[OutputPositions, QuerySubset] = field(default_factory=dict, repr=False)

    @property
    def num_responses(self) -> int:
        """R, the number of responses."""
        return len(self.response_tree)

    @property
    def attention_pairs(self) -> int:
        """Number of (query, key) pairs that attention computes."""
        path_lengths: list[int] = []  # tokens on the path to each segment, itself included
        total = 0
        for segment in self.segments:
            ancestor_tokens = path_lengths[segment.parent] if segment.parent >= 0 else 0
            path_lengths.append(ancestor_tokens + segment.length)
            total += segment.length * ancestor_tokens + segment.length * (segment.length + 1) // 2
        return total

    @property
    def attention_metadata(self) -> AttentionMetadata:
        """The metadata of layers in which every token is a query."""
        if self._attention_metadata is None:
            self._attention_metadata = AttentionMetadata(self._spans, len(self.tokens), self.tokens.device)
        return self._attention_metadata

    def query_subset(self, output_positions: OutputPositions) -> QuerySubset:
        """The queries that the sparse last layer computes for these output positions."""
        if output_positions not in self._query_subsets:
            self._query_subsets[output_positions] = QuerySubset.from_indices(
                self._spans, self.output_indices[output_positions], self.tokens.device
            )
        return self._query_subsets[output_positions]

    @property
    def _spans(self) -> list[Span]:
        return [(s.start, s.length, s.parent, s.start) for s in self.segments]


@dataclass(frozen=True)
class Microbatch:
    """A packed micro-batch and the indices of the step's trees that it holds, in packing order."""

    forest: Forest
    tree_indices: list[int]


def make_microbatches(
    trees: Sequence[TreeNode], tokens_per_microbatch: int, device: torch.device | str = "cpu"
) -> list[Microbatch]:
    """Pack one step's trees into micro-batches of at most `tokens_per_microbatch` tokens each."""
    groups = microbatch_indices([node.num_tokens for node in trees], tokens_per_microbatch)
    return [Microbatch(pack_trees([trees[row] for row in group], device), group) for group in groups]


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


def pack_trees(trees: Sequence[TreeNode], device: torch.device | str = "cpu") -> Forest:
    """Pack the trees into one sequence.

    Raises `ValueError` for an empty node, a mask of the wrong length, or a scored first token of a tree, which nothing
    predicts.
    """
    tokens: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    sources: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    segments: list[Segment] = []
    response_lengths: list[int] = []
    response_tree: list[int] = []
    response_end: list[int] = []
    start = 0
    for tree_index, root in enumerate(trees):
        for node, parent, depth in _walk_depth_first(root, len(segments)):
            ids = np.asarray(node.tokens, dtype=np.int64)
            if not len(ids):
                raise ValueError(f"tree {tree_index}: a node has no tokens")
            segments.append(Segment(start, len(ids), parent, tree=tree_index))
            tokens.append(ids)
            positions.append(np.arange(depth, depth + len(ids)))
            offsets = _scored_offsets(node, tree_index, is_root=parent < 0)
            if len(offsets):
                parent_end = -1 if parent < 0 else segments[parent].start + segments[parent].length - 1
                source = start + offsets - 1
                source[offsets == 0] = parent_end
                sources.append(source)
                targets.append(ids[offsets])
                response_lengths.append(len(offsets))
                response_tree.append(tree_index)
                response_end.append(start + len(ids) - 1)
            start += len(ids)
    output_indices: dict[OutputPositions, np.ndarray] = {
        "scored": _concatenate(sources),
        "response_ends": np.asarray(response_end, dtype=np.int64),
    }
    return Forest(
        tokens=_index_tensor(_concatenate(tokens), device),
        positions=_index_tensor(_concatenate(positions), device),
        segments=segments,
        source=_index_tensor(output_indices["scored"], device),
        target=_index_tensor(_concatenate(targets), device),
        response_index=_index_tensor(np.repeat(np.arange(len(response_lengths)), response_lengths), device),
        response_tree=_index_tensor(np.asarray(response_tree, dtype=np.int64), device),
        response_end=_index_tensor(output_indices["response_ends"], device),
        output_indices=output_indices,
    )


def _walk_depth_first(root: TreeNode, first_segment: int) -> Iterator[tuple[TreeNode, int, int]]:
    """Each node of the tree, parents first, with its parent's segment number and the position of its first token."""
    segment = first_segment
    stack = [(root, -1, 0)]
    while stack:
        node, parent, depth = stack.pop()
        yield node, parent, depth
        stack.extend((child, segment, depth + len(node.tokens)) for child in reversed(node.children))
        segment += 1


def _scored_offsets(node: TreeNode, tree_index: int, is_root: bool) -> np.ndarray:
    if isinstance(node.scored, bool):
        offsets = np.arange(len(node.tokens) if node.scored else 0)
    else:
        if len(node.scored) != len(node.tokens):
            raise ValueError(f"tree {tree_index}: {len(node.tokens)} tokens but a mask of {len(node.scored)}")
        offsets = np.flatnonzero(np.asarray(node.scored, dtype=bool))
    if is_root and len(offsets) and offsets[0] == 0:
        raise ValueError(f"tree {tree_index}: its first token is scored, but no token precedes it to predict it")
    return offsets


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays).astype(np.int64, copy=False) if arrays else np.zeros(0, dtype=np.int64)


def _index_tensor(indices: np.ndarray, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(indices.astype(np.int64, copy=False)).to(device)
