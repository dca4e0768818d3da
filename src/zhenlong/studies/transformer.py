"""A Transformer to read: encoder-only, decoder-only and encoder-decoder, in one file and without a library of layers.

Vaswani et al. (2017) described an encoder-decoder; BERT uses its encoder, GPT and Llama its decoder, T5 both. All
differences are fields of `TransformerConfig`: the attention mask, position encoding, placement of the norms, and the
feed-forward layer. `shared_weights.py` loads the weights of a BERT, Llama or T5 from transformers into these layers;
the outputs agree with the library's.

What is left out: dropout, KV cache, padding (all sequences of a batch have one length), training.

Shapes: B batch, T sequence length (S of the sequence attended to), d hidden size, h heads of size d/h, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TransformerConfig:
    """The choices in which BERT, Llama and T5 differ, and the sizes."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_dim: int  # hidden size of the feed-forward layer
    num_kv_heads: int = 0  # grouped-query attention if fewer than num_heads (Ainslie et al. 2023); 0: num_heads
    max_positions: int = 512
    causal: bool = False  # causal mask: a token attends to itself and earlier tokens
    cross_attention: bool = False  # a third sub-layer attends to the encoder's output
    pre_norm: bool = True  # norm before each sub-layer (Xiong et al. 2020); false: after it (Vaswani et al. 2017)
    layer_norm: bool = False  # LayerNorm; false: RMSNorm, which neither subtracts the mean nor adds a bias
    bias: bool = False
    position_encoding: str = "rotary"  # rotary (Su et al. 2021), learned, or relative (T5's bias by bucket)
    num_segments: int = 0  # BERT's token types: first or second text
    activation: str = "silu"  # silu (gated, Shazeer 2020), gelu or relu
    scale_scores: bool = True  # divide scores by sqrt(d/h); T5 folds the factor into its initialisation
    eps: float = 1e-6
    rope_theta: float = 10000.0
    num_buckets: int = 32
    max_distance: int = 128


class Norm(nn.Module):
    """RMSNorm, or LayerNorm if `layer_norm`, over the hidden dimension, with a learned scale."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.hidden_size)) if config.layer_norm else None
        self.eps = config.eps

    def forward(self, x: Tensor) -> Tensor:  # [B, T, d]
        if self.bias is None:
            return self.weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps)
        x = x - x.mean(-1, keepdim=True)
        return self.weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps) + self.bias


class Attention(nn.Module):
    """Multi-head attention: softmax(q kᵀ / sqrt(d/h) + bias) v per head (Vaswani et al. 2017, Eq. 1)."""

    def __init__(self, config: TransformerConfig, relative: bool = False) -> None:
        super().__init__()
        self.config, self.head_dim = config, config.hidden_size // config.num_heads
        kv = (config.num_kv_heads or config.num_heads) * self.head_dim
        self.query = nn.Linear(config.hidden_size, config.hidden_size, config.bias)
        self.key = nn.Linear(config.hidden_size, kv, config.bias)
        self.value = nn.Linear(config.hidden_size, kv, config.bias)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, config.bias)
        self.bias_table = nn.Embedding(config.num_buckets, config.num_heads) if relative else None

    def forward(self, x: Tensor, memory: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Self-attention over x [B, T, d], or cross-attention to `memory` [B, S, d]; `bias` is [h, T, S]."""
        source = x if memory is None else memory
        q, k, v = (
            self._split_heads(y) for y in (self.query(x), self.key(source), self.value(source))
        )  # [B, h, T or S, d/h]
        if self.config.position_encoding == "rotary" and memory is None:
            q, k = rotate_positions(q, self.config.rope_theta), rotate_positions(k, self.config.rope_theta)
        queries_per_kv_head = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(queries_per_kv_head, 1), v.repeat_interleave(queries_per_kv_head, 1)
        scores = q @ k.transpose(2, 3) / (math.sqrt(self.head_dim) if self.config.scale_scores else 1.0)  # [B, h, T, S]
        if bias is not None:
            scores = scores + bias
        if self.config.causal and memory is None:
            causal_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(causal_mask, float("-inf"))
        output = scores.softmax(-1) @ v  # [B, h, T, d/h]
        return self.out(output.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def rotate_positions(x: Tensor, theta: float) -> Tensor:
    """Rotary position embedding of queries or keys [B, h, T, d/h] (Su et al. 2021).

    Dimensions i and i + d/(2h) are rotated by an angle proportional to the position, so that the dot product of a query
    and a key depends only on their distance.
    """
    half = x.shape[-1] // 2
    inv_freq = theta ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[2], device=x.device)[:, None] * inv_freq  # [T, d/(2h)]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def relative_position_bias(bias_table: nn.Embedding, length: int, config: TransformerConfig) -> Tensor:
    """T5's relative position bias [h, T, T]: a learned scalar per head and distance bucket (Raffel et al. 2020, §2.1).

    The first half of the buckets are exact distances, the second half grow logarithmically up to `max_distance`.
    """
    position = torch.arange(length, device=bias_table.weight.device)
    relative_position = position[:, None] - position[None, :]  # query position - key position
    num_buckets = config.num_buckets if config.causal else config.num_buckets // 2
    distance, num_exact = relative_position.clamp(min=0) if config.causal else relative_position.abs(), num_buckets // 2
    log_bucket = (
        torch.log(distance.float().clamp(min=1) / num_exact)
        / math.log(config.max_distance / num_exact)
        * (num_buckets - num_exact)
    )
    bucket = torch.where(distance < num_exact, distance, (num_exact + log_bucket.long()).clamp(max=num_buckets - 1))
    offset = (
        0 if config.causal else num_buckets * (relative_position < 0)
    )  # a bidirectional encoder uses the second half of the buckets for keys after the query
    return bias_table(bucket + offset).permute(2, 0, 1)


class FeedForward(nn.Module):
    """Position-wise MLP: up-projection, activation, down-projection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, config.ffn_dim, False) if config.activation == "silu" else None
        self.up = nn.Linear(config.hidden_size, config.ffn_dim, config.bias)
        self.down = nn.Linear(config.ffn_dim, config.hidden_size, config.bias)
        self.activation = F.relu if config.activation == "relu" else F.gelu

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(self.activation(self.up(x)))


class Layer(nn.Module):
    """One block: self-attention, optional cross-attention, feed-forward, each with a norm and a residual connection."""

    def __init__(self, config: TransformerConfig, relative: bool) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention, self.attention_norm = Attention(config, relative), Norm(config)
        self.cross_attention = Attention(config) if config.cross_attention else None
        self.cross_attention_norm = Norm(config) if config.cross_attention else None
        self.feed_forward, self.feed_forward_norm = FeedForward(config), Norm(config)

    def forward(self, x: Tensor, memory: Tensor | None, bias: Tensor | None) -> Tensor:
        if not self.pre_norm:  # post-norm, as in BERT
            x = self.attention_norm(x + self.attention(x, bias=bias))
            return self.feed_forward_norm(x + self.feed_forward(x))
        x = x + self.attention(self.attention_norm(x), bias=bias)
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            x = x + self.cross_attention(self.cross_attention_norm(x), memory)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Stack(nn.Module):
    """Embeddings and layers: an encoder, or a decoder if `causal`. Token ids [B, T] -> hidden states [B, T, d]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = (
            nn.Embedding(config.max_positions, config.hidden_size) if config.position_encoding == "learned" else None
        )
        self.segment_embedding = nn.Embedding(config.num_segments, config.hidden_size) if config.num_segments else None
        relative = config.position_encoding == "relative"
        self.layers = nn.ModuleList(Layer(config, relative and number == 0) for number in range(config.num_layers))
        self.norm = Norm(config)  # post-norm (BERT): on the embeddings; pre-norm: on the last layer's output

    def forward(self, ids: Tensor, memory: Tensor | None = None) -> Tensor:
        """`memory` [B, S, d] is the encoder's output, for a decoder with `cross_attention`."""
        x = self.token_embedding(ids)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[: ids.shape[1]]
        if self.segment_embedding is not None:
            x = x + self.segment_embedding.weight[0]
        x = x if self.config.pre_norm else self.norm(x)
        first_layer: Any = self.layers[0]
        bias_table = first_layer.attention.bias_table if self.config.position_encoding == "relative" else None
        bias = (
            None if bias_table is None else relative_position_bias(bias_table, ids.shape[1], self.config)
        )  # computed once: all layers share the first layer's table
        for layer in self.layers:
            x = layer(x, memory, bias)
        return self.norm(x) if self.config.pre_norm else x


class Decoder(nn.Module):
    """Decoder-only, as Llama: ids [B, T] -> next-token logits [B, T, V]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.stack, self.head = Stack(config), nn.Linear(config.hidden_size, config.vocab_size, False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.stack(ids))


class EncoderDecoder(nn.Module):
    """Encoder-decoder, as T5: source ids [B, S] and target ids [B, T] -> next-token logits [B, T, V]."""

    def __init__(self, encoder: TransformerConfig, decoder: TransformerConfig, output_scale: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.decoder, self.output_scale = Stack(encoder), Stack(decoder), output_scale
        self.head = nn.Linear(decoder.hidden_size, decoder.vocab_size, False)

    def forward(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        return self.head(self.decoder(target_ids, self.encoder(source_ids)) * self.output_scale)


Encoder = Stack
"""Encoder-only, as BERT: a stack with bidirectional attention."""
