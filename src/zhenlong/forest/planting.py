"""The token forest: batches as trees of token segments, planted into one flat sequence without padding.

A conversation to imitate is a tree of one node; a preference pair is a prompt with two children, a ranking has K, a
group of sampled answers G; trees may be deeper, and nodes anywhere may hold tokens to score. Planting lays all nodes
one after another, parents before children, so that a token is computed once however many continuations share it.

Shapes: N tokens, S segments, M scored tokens, R responses (segments that hold scored tokens).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from zhenlong.forest.layout import Span
from zhenlong.forest.view import Reading, View

Read = Literal["scored", "ends"]  # what predicts scored tokens, or the last token of each response


@dataclass(frozen=True)
class Node:
    """A run of tokens, which of them are scored (predicted from the token before), and what continues it."""

    tokens: Sequence[int]
    scored: Sequence[bool] | bool = False
    children: tuple[Node, ...] = ()

    @property
    def size(self) -> int:
        """Tokens in this node and all beneath it: what the tree costs in a micro-batch."""
        return len(self.tokens) + sum(child.size for child in self.children)

    @property
    def scored_tokens(self) -> int:
        """Scored tokens in this node and all beneath it."""
        own = (len(self.tokens) if self.scored else 0) if isinstance(self.scored, bool) else sum(self.scored)
        return own + sum(child.scored_tokens for child in self.children)


def tree(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> Node:
    """A prompt that is not scored, with one fully scored child for each response."""
    return Node(prompt, False, tuple(Node(response, True) for response in responses))


@dataclass(frozen=True)
class Segment:
    """Where a planted node lies: `start` and `length` in the flat batch, parent segment (-1 for a root), tree."""

    start: int
    length: int
    parent: int
    tree: int


@dataclass
class Forest:
    """A flat batch of trees.

    tokens [N] and positions [N] (restarting with each tree, continuing from parent to child); source [M], the flat
    index of the hidden state that predicts; target [M], the token id it should predict; leaf [M], the response it
    belongs to; leaf_tree [R], the tree of each response, and leaf_last [R], the flat index of its last token.
    Responses are numbered in planting order, depth first.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    segments: list[Segment]
    source: torch.Tensor
    target: torch.Tensor
    leaf: torch.Tensor
    leaf_tree: torch.Tensor
    leaf_last: torch.Tensor
    asked: dict[Read, np.ndarray] = field(repr=False)  # the flat indices at which each kind of reading reads
    attended: int = 0  # calls of the forest's attention so far
    read: int = 0  # positions that the last layer computed when the forest last went through a model
    _view: View | None = field(default=None, repr=False)
    _readings: dict[Read, Reading] = field(default_factory=dict, repr=False)

    @property
    def leaves(self) -> int:
        """R, the number of responses."""
        return len(self.leaf_tree)

    @property
    def pairs(self) -> int:
        """How many (query, key) pairs attention looks at."""
        seen: list[int] = []  # tokens on the path down to each segment, itself included
        total = 0
        for segment in self.segments:
            before = seen[segment.parent] if segment.parent >= 0 else 0
            seen.append(before + segment.length)
            total += segment.length * before + segment.length * (segment.length + 1) // 2
        return total

    @property
    def view(self) -> View:
        """Who attends to whom where every token asks."""
        if self._view is None:
            self._view = View(self._spans, len(self.tokens), self.tokens.device)
        return self._view

    def reading(self, read: Read) -> Reading:
        """The positions that `read` reads, for the last layer."""
        if read not in self._readings:
            self._readings[read] = Reading.of(self._spans, self.asked[read], self.tokens.device)
        return self._readings[read]

    @property
    def _spans(self) -> list[Span]:
        return [(s.start, s.length, s.parent, s.start) for s in self.segments]


def plant(trees: Sequence[Node], device: torch.device | str = "cpu") -> Forest:
    """Lay the trees out flat.

    Raises `ValueError` for an empty node, a mask of the wrong length, or a tree that scores its very first token, which
    nothing predicts.
    """
    tokens: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    sources: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    segments: list[Segment] = []
    leaf_sizes: list[int] = []
    leaf_tree: list[int] = []
    leaf_last: list[int] = []
    flat = 0
    for tree_index, root in enumerate(trees):
        for node, parent, depth in _walk(root, len(segments)):
            ids = np.asarray(node.tokens, dtype=np.int64)
            if not len(ids):
                raise ValueError(f"tree {tree_index}: a node has no tokens")
            segments.append(Segment(flat, len(ids), parent, tree_index))
            tokens.append(ids)
            positions.append(np.arange(depth, depth + len(ids)))
            scored = _scored_offsets(node, tree_index, is_root=parent < 0)
            if len(scored):
                before = -1 if parent < 0 else segments[parent].start + segments[parent].length - 1
                source = flat + scored - 1
                source[scored == 0] = before
                sources.append(source)
                targets.append(ids[scored])
                leaf_sizes.append(len(scored))
                leaf_tree.append(tree_index)
                leaf_last.append(flat + len(ids) - 1)
            flat += len(ids)
    asked: dict[Read, np.ndarray] = {"scored": _joined(sources), "ends": np.asarray(leaf_last, dtype=np.int64)}
    return Forest(
        tokens=_tensor(_joined(tokens), device),
        positions=_tensor(_joined(positions), device),
        segments=segments,
        source=_tensor(asked["scored"], device),
        target=_tensor(_joined(targets), device),
        leaf=_tensor(np.repeat(np.arange(len(leaf_sizes)), leaf_sizes), device),
        leaf_tree=_tensor(np.asarray(leaf_tree, dtype=np.int64), device),
        leaf_last=_tensor(asked["ends"], device),
        asked=asked,
    )


def _walk(root: Node, first: int) -> Iterator[tuple[Node, int, int]]:
    """Every node below `root`, parents first, with its parent's segment number and the position of its first token."""
    number = first
    stack = [(root, -1, 0)]
    while stack:
        node, parent, depth = stack.pop()
        yield node, parent, depth
        stack.extend((child, number, depth + len(node.tokens)) for child in reversed(node.children))
        number += 1


def _scored_offsets(node: Node, tree_index: int, is_root: bool) -> np.ndarray:
    if isinstance(node.scored, bool):
        offsets = np.arange(len(node.tokens) if node.scored else 0)
    else:
        if len(node.scored) != len(node.tokens):
            raise ValueError(f"tree {tree_index}: {len(node.tokens)} tokens but a mask of {len(node.scored)}")
        offsets = np.flatnonzero(np.asarray(node.scored, dtype=bool))
    if is_root and len(offsets) and offsets[0] == 0:
        raise ValueError(f"tree {tree_index}: its first token is scored, but nothing comes before it to predict it")
    return offsets


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64, copy=False) if parts else np.zeros(0, dtype=np.int64)


def _tensor(flat: np.ndarray, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(flat.astype(np.int64, copy=False)).to(device)
