"""A Transformer to read: encoder-only, decoder-only and encoder-decoder, in one file and without a library of layers.

Vaswani et al. (2017) described one network; BERT kept its encoder, GPT and Llama its decoder, T5 both. What sets them
apart is small, and it is all in `Design`: who may look at whom, where positions enter, where the norm stands, and the
form of the feed-forward layer. The numbers are the library's: `shared_weights.py` loads the weights of a BERT, a Llama
or a T5 into this file's layers, and the outputs are the same.

What is left out: dropout, caches for generation, padding (rows of a batch have one length), training.

Shapes: B rows, T tokens of a row (S of what is looked at), d the width, h heads of d/h numbers each, V the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Design:
    """What one family of Transformers chose."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int  # width of the feed-forward layer
    kv_heads: int = 0  # heads of keys and values; fewer than `heads` share them (Ainslie et al. 2023); 0: as many
    context: int = 512
    causal: bool = False  # a token sees only itself and what came before it
    crossed: bool = False  # a third sub-layer looks at another stack's output
    norm_first: bool = True  # normalise what a sub-layer reads (Xiong et al. 2020), or, as at first, what it wrote
    centred: bool = False  # layer norm subtracts the mean and adds a bias; root-mean-square norm does neither
    biases: bool = False
    positions: str = "rotary"  # rotary (Su et al. 2021), learned, or relative (T5's buckets)
    segments: int = 0  # BERT marks first and second text
    activation: str = "silu"  # silu (gated, Shazeer 2020), gelu or relu
    scaled: bool = True  # scores divided by sqrt(d / h); T5 leaves that to its initialisation
    tiny: float = 1e-6
    theta: float = 10000.0
    buckets: int = 32
    farthest: int = 128


class Norm(nn.Module):
    """Every token's vector brought to length sqrt(d), and stretched by a learned gain."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(design.width))
        self.bias = nn.Parameter(torch.zeros(design.width)) if design.centred else None
        self.tiny = design.tiny

    def forward(self, x: Tensor) -> Tensor:  # [B, T, d]
        if self.bias is None:
            return self.weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.tiny)
        x = x - x.mean(-1, keepdim=True)
        return self.weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.tiny) + self.bias


class Attention(nn.Module):
    """Each token asks a question (query), compares it with what all offer (keys), and takes the mean of what they hold.

    softmax(q kᵀ / sqrt(d / h) + bias) v, in h heads side by side (Vaswani et al. 2017, Eq. 1).
    """

    def __init__(self, design: Design, relative: bool = False) -> None:
        super().__init__()
        self.design, self.size = design, design.width // design.heads
        kv = (design.kv_heads or design.heads) * self.size
        self.query = nn.Linear(design.width, design.width, design.biases)
        self.key = nn.Linear(design.width, kv, design.biases)
        self.value = nn.Linear(design.width, kv, design.biases)
        self.out = nn.Linear(design.width, design.width, design.biases)
        self.near = nn.Embedding(design.buckets, design.heads) if relative else None

    def forward(self, x: Tensor, other: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """x [B, T, d] looks at itself, or at `other` [B, S, d]. `bias` [h, T, S] is added to the scores."""
        read = x if other is None else other
        q, k, v = (self._heads(y) for y in (self.query(x), self.key(read), self.value(read)))  # [B, h, T or S, d/h]
        if self.design.positions == "rotary" and other is None:
            q, k = turned(q, self.design.theta), turned(k, self.design.theta)
        shared = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        scores = q @ k.transpose(2, 3) / (math.sqrt(self.size) if self.design.scaled else 1.0)  # [B, h, T, S]
        if bias is not None:
            scores = scores + bias
        if self.design.causal and other is None:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        mixed = scores.softmax(-1) @ v  # [B, h, T, d/h]
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.size)).transpose(1, 2)


def turned(x: Tensor, theta: float) -> Tensor:
    """Rotary positions: pairs of numbers turned by an angle that grows with the position, [B, h, T, d/h].

    The product of a query and a key then depends only on how far apart they are. Number i is paired with i + d/(2h).
    """
    half = x.shape[-1] // 2
    speed = theta ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[2], device=x.device)[:, None] * speed  # [T, d/(2h)]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def distances(near: nn.Embedding, tokens: int, design: Design) -> Tensor:
    """T5's bias [h, T, T]: one learned number a head for each distance, far ones in buckets that grow (§2.1)."""
    place = torch.arange(tokens, device=near.weight.device)
    back = place[:, None] - place[None, :]  # query's place minus key's
    buckets = design.buckets if design.causal else design.buckets // 2
    far, exact = back.clamp(min=0) if design.causal else back.abs(), buckets // 2
    grown = torch.log(far.float().clamp(min=1) / exact) / math.log(design.farthest / exact) * (buckets - exact)
    number = torch.where(far < exact, far, (exact + grown.long()).clamp(max=buckets - 1))
    ahead = 0 if design.causal else buckets * (back < 0)  # the second half is for keys ahead of the query
    return near(number + ahead).permute(2, 0, 1)


class FeedForward(nn.Module):
    """The same small network for every token by itself: wider, bent, and back."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.gate = nn.Linear(design.width, design.inner, False) if design.activation == "silu" else None
        self.up = nn.Linear(design.width, design.inner, design.biases)
        self.down = nn.Linear(design.inner, design.width, design.biases)
        self.bend = F.relu if design.activation == "relu" else F.gelu

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(self.bend(self.up(x)))


class Layer(nn.Module):
    """Attention, in a decoder that reads an encoder a second one, then the feed-forward layer; each adds to what is."""

    def __init__(self, design: Design, relative: bool) -> None:
        super().__init__()
        self.first = design.norm_first
        self.attention, self.attention_norm = Attention(design, relative), Norm(design)
        self.crossing = Attention(design) if design.crossed else None
        self.crossing_norm = Norm(design) if design.crossed else None
        self.feed, self.feed_norm = FeedForward(design), Norm(design)

    def forward(self, x: Tensor, memory: Tensor | None, bias: Tensor | None) -> Tensor:
        if not self.first:  # BERT: add, then normalise
            x = self.attention_norm(x + self.attention(x, bias=bias))
            return self.feed_norm(x + self.feed(x))
        x = x + self.attention(self.attention_norm(x), bias=bias)
        if self.crossing is not None and self.crossing_norm is not None:
            x = x + self.crossing(self.crossing_norm(x), memory)
        return x + self.feed(self.feed_norm(x))


class Stack(nn.Module):
    """Embeddings and layers: an encoder, or with `causal` a decoder. Token ids [B, T] to vectors [B, T, d]."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        self.tokens = nn.Embedding(design.vocabulary, design.width)
        self.places = nn.Embedding(design.context, design.width) if design.positions == "learned" else None
        self.segments = nn.Embedding(design.segments, design.width) if design.segments else None
        relative = design.positions == "relative"
        self.layers = nn.ModuleList(Layer(design, relative and number == 0) for number in range(design.layers))
        self.norm = Norm(design)  # of the embeddings in BERT, of the last layer's output in the others

    def forward(self, ids: Tensor, memory: Tensor | None = None) -> Tensor:
        """`memory` [B, S, d] is what an encoder made, for a decoder that is `crossed`."""
        x = self.tokens(ids)
        if self.places is not None:
            x = x + self.places.weight[: ids.shape[1]]
        if self.segments is not None:
            x = x + self.segments.weight[0]
        x = x if self.design.norm_first else self.norm(x)
        first: Any = self.layers[0]
        near = first.attention.near if self.design.positions == "relative" else None
        bias = None if near is None else distances(near, ids.shape[1], self.design)  # one table for all layers
        for layer in self.layers:
            x = layer(x, memory, bias)
        return self.norm(x) if self.design.norm_first else x


class Decoder(nn.Module):
    """Decoder-only, as Llama: ids [B, T] to the scores of each next token [B, T, V]."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.stack, self.head = Stack(design), nn.Linear(design.width, design.vocabulary, False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.stack(ids))


class EncoderDecoder(nn.Module):
    """Encoder-decoder, as T5: the source's ids [B, S] and what was said so far [B, T] to the next tokens' [B, T, V]."""

    def __init__(self, encoder: Design, decoder: Design, shrink: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.decoder, self.shrink = Stack(encoder), Stack(decoder), shrink
        self.head = nn.Linear(decoder.width, decoder.vocabulary, False)

    def forward(self, source: Tensor, said: Tensor) -> Tensor:
        return self.head(self.decoder(said, self.encoder(source)) * self.shrink)


Encoder = Stack
"""Encoder-only, as BERT: a stack whose tokens see each other both ways."""
