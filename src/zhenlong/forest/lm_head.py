"""From hidden states to log-probabilities: the output head on scored positions only, in chunks.

The full logits [N, vocabulary] never exist. The first chunks are cached for the backward pass, up to a number of logits
that depends on neither vocabulary nor length; all other chunks are recomputed. Half-precision logits are not upcast in
memory: the softmax reads them as they are and computes in fp32, which halves the memory traffic.

Shapes: M scored tokens, d hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.forest.packing import Forest
from zhenlong.kernels.fused_ops import exp_rows, supports_softmax
from zhenlong.kernels.fused_ops import log_softmax_gather as kernel_log_softmax_gather
from zhenlong.kernels.onednn_linear import add_weight_gradient, linear_no_grad

# By device type. With a vocabulary of 150,000, a GPU needs chunks of at least a thousand rows to be busy.
LOGITS_PER_CHUNK: Final = {"cpu": 1 << 20, "cuda": 1 << 28}  # 4 MB in fp32, 1 GB
MIN_CHUNK_ROWS: Final = 128  # smallest chunk: matmuls with fewer rows are slow
PREFERRED_CHUNK: Final = 256, 1 << 23  # smallest chunk up to this many logits: 10 % of the head's time
MAX_CACHED_LOGITS: Final = 1 << 24  # on a CPU: 64 MB
# Of the device's memory, for each cached logit: in half precision the cache takes up to a sixteenth of it.
CUDA_BYTES_PER_CACHED_LOGIT: Final = 32


@dataclass(frozen=True)
class LogitSettings:
    """How logits follow from the output layer's products: scaled, then capped, then divided by the temperature."""

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    @property
    def is_identity(self) -> bool:
        """Whether the products are the logits."""
        return self.scale == 1.0 and self.softcap is None and self.temperature == 1.0


@dataclass(frozen=True)
class LMHead:
    """An output layer: logits = cap(scale * (hidden @ weight.T + bias)), cap(x) = softcap * tanh(x / softcap)."""

    weight: torch.Tensor  # [V, d]
    bias: torch.Tensor | None  # [V]
    scale: float = 1.0
    softcap: float | None = None


def lm_head_of(model: PreTrainedModel) -> LMHead:
    """The model's output layer with the scaling of its configuration. Raises `UserError` if it is not linear."""
    layer = model.get_output_embeddings()
    if type(layer) is not nn.Linear:
        layer_type = type(layer).__name__
        raise UserError(f"output layer: expected a plain linear one, got {layer_type}; leave it out of lora_targets")
    config = model.config.get_text_config()
    scale = 1.0
    if getattr(config, "logits_scaling", None):  # Granite divides
        scale /= config.logits_scaling
    if getattr(config, "logit_scale", None):  # Cohere multiplies
        scale *= config.logit_scale
    softcap = getattr(config, "final_logit_softcapping", None)
    return LMHead(layer.weight, layer.bias, scale=scale, softcap=softcap)


def log_probs(
    model: PreTrainedModel, states: torch.Tensor, forest: Forest, temperature: float = 1.0, return_entropy: bool = False
) -> Any:
    """Log-probability of each scored token, [M], in float32; with `return_entropy`, also the entropy of each
    prediction, [M].

    `states` [M, d] come from `forward`. Logits are divided by `temperature` first, as during sampling. The entropy
    carries no gradient.
    """
    head = lm_head_of(model)
    weight, bias = head.weight, head.bias
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states, weight = states.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    settings = LogitSettings(head.scale, head.softcap, temperature)
    target_log_probs, entropies = _LogProbs.apply(states, weight, bias, forest.target, settings, return_entropy)
    return (target_log_probs, entropies) if return_entropy else target_log_probs


class _LogProbs(torch.autograd.Function):
    """log softmax(logits / temperature)[target]; logits are created, used and freed chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        target: torch.Tensor,
        settings: LogitSettings,
        return_entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        num_rows, vocab_size, device = len(target), len(weight), states.device
        chunk_rows = _chunk_rows(vocab_size, device)
        target_log_probs, max_logits, exp_sums = (
            torch.empty(num_rows, dtype=torch.float32, device=device) for _ in range(3)
        )
        entropies = torch.empty_like(target_log_probs) if return_entropy else None
        caches = any(ctx.needs_input_grad) and settings.softcap is None  # the derivative of a soft cap needs the logits
        cache_budget = _max_cached_logits(device) if caches else 0
        cached, used_kernel = [], False
        for start in range(0, num_rows, chunk_rows):
            chunk = slice(start, start + chunk_rows)
            exp_logits = _logits(states[chunk], weight, bias, settings=settings)
            used_kernel = supports_softmax(exp_logits)
            if used_kernel:
                target_log_probs[chunk], max_logits[chunk], exp_sums[chunk], chunk_entropies = (
                    kernel_log_softmax_gather(exp_logits, target[chunk], return_entropy)
                )
            else:
                target_log_probs[chunk], max_logits[chunk], exp_sums[chunk], chunk_entropies, exp_logits = (
                    _log_softmax_gather(exp_logits, target[chunk, None], return_entropy)
                )
            if entropies is not None and chunk_entropies is not None:
                entropies[chunk] = chunk_entropies
            cache_budget -= exp_logits.numel()
            if cache_budget >= 0:
                cached.append(exp_logits)
            del exp_logits  # free it before the next chunk is computed
        ctx.save_for_backward(states, weight, bias, target, target_log_probs, max_logits, exp_sums, *cached)
        ctx.settings, ctx.size, ctx.compiled = settings, chunk_rows, used_kernel
        if entropies is not None:
            ctx.mark_non_differentiable(entropies)
        return target_log_probs, entropies

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        states, weight, bias, target, target_log_probs, max_logits, exp_sums, *cached = ctx.saved_tensors
        scale, softcap, temperature = ctx.settings.scale, ctx.settings.softcap, ctx.settings.temperature
        to_states, to_weight, to_bias = ctx.needs_input_grad[:3]
        d_states = torch.empty_like(states) if to_states else None
        # Summed over chunks in fp32: adding up many bf16 chunks would lose small values.
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if to_weight else None
        d_bias = torch.zeros(len(weight), dtype=torch.float32, device=weight.device) if to_bias else None
        for number, start in enumerate(range(0, len(target), ctx.size)):
            chunk = slice(start, start + ctx.size)
            softcap_slope = None
            if number < len(cached):
                d_logits = cached[number] if ctx.compiled else _exp_logits(cached[number])
            else:
                d_logits = _logits(states[chunk], weight, bias, settings=ctx.settings)
                softcap_slope = None if softcap is None else 1 - (d_logits * (temperature / softcap)).square()
                d_logits = (
                    exp_rows(d_logits, max_logits[chunk])
                    if ctx.compiled
                    else _exp_logits(d_logits, max_logits[chunk, None])
                )
            # d log p / d logits = one-hot - softmax; here negated and multiplied by exp_sums. At the target this is
            # 1 - p, exact where p is near 1. Each row's factor is applied to the small operands of the matmuls instead
            # of to the logits.
            at_target = torch.expm1(target_log_probs[chunk, None]) * exp_sums[chunk, None]
            d_logits.scatter_(1, target[chunk, None], at_target.to(d_logits.dtype))
            if softcap_slope is not None:
                d_logits.mul_(softcap_slope)
            d_logits = d_logits.to(states.dtype)
            row_factor = (gradient[chunk] * (-scale / temperature) / exp_sums[chunk])[:, None]
            if d_states is not None:
                d_states[chunk] = linear_no_grad(d_logits, weight.t()).mul_(row_factor)
            if d_weight is not None:
                add_weight_gradient(d_weight, d_logits, (states[chunk] * row_factor).to(states.dtype))
            if d_bias is not None:
                d_bias += (d_logits.T @ row_factor.to(states.dtype)).squeeze(1)
            del d_logits
        cast_weight = None if d_weight is None else d_weight.to(weight.dtype)
        cast_bias = None if d_bias is None else d_bias.to(weight.dtype)
        return d_states, cast_weight, cast_bias, None, None, None


def _chunk_rows(vocab_size: int, device: torch.device) -> int:
    rows, most = PREFERRED_CHUNK
    least = min(rows, max(MIN_CHUNK_ROWS, most // vocab_size))
    return max(least, LOGITS_PER_CHUNK.get(device.type, LOGITS_PER_CHUNK["cpu"]) // vocab_size)


def _logits(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, settings: LogitSettings
) -> torch.Tensor:
    """[rows, V] in fp32, scaled, capped and divided by the temperature; if none applies, in the dtype of the matmul."""
    logits = linear_no_grad(states, weight, bias)
    if settings.is_identity:
        return logits
    logits = logits.float()
    if settings.scale != 1.0:
        logits = logits * settings.scale
    if settings.softcap is not None:
        logits = settings.softcap * torch.tanh(logits / settings.softcap)
    return logits if settings.temperature == 1.0 else logits / settings.temperature


def _log_softmax_gather(
    logits: torch.Tensor, target: torch.Tensor, return_entropy: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """For each row: log-probability of the target, largest logit, sum of exponentials, and entropy if requested.

    All in fp32. The last result, [rows, V], is the input of `_exp_logits`: the exponentials themselves (`logits` are
    overwritten), or in half precision the logits.
    """
    if logits.dtype != torch.float32:
        all_log_probs = logits.log_softmax(-1, dtype=torch.float32)
        entropies = -torch.linalg.vecdot(all_log_probs.exp(), all_log_probs) if return_entropy else None
        target_log_probs = all_log_probs.gather(1, target).squeeze(1)
        return (
            target_log_probs,
            torch.zeros_like(target_log_probs),
            torch.ones_like(target_log_probs),
            entropies,
            logits,
        )
    max_logits = logits.amax(-1, keepdim=True)
    target_logits = logits.gather(1, target) - max_logits
    shifted = logits.sub_(max_logits)
    exp_logits = shifted.exp() if return_entropy else shifted.exp_()
    exp_sums = exp_logits.sum(-1)
    log_sums = exp_sums.log()
    entropies = log_sums - torch.linalg.vecdot(exp_logits, shifted) / exp_sums if return_entropy else None
    return target_logits.squeeze(1) - log_sums, max_logits.squeeze(1), exp_sums, entropies, exp_logits


def _exp_logits(logits: torch.Tensor, max_logits: torch.Tensor | None = None) -> torch.Tensor:
    """exp(logits - max_logits), in place; without `max_logits` the argument already holds exponentials. In half
    precision, the softmax.
    """
    if logits.dtype != torch.float32:
        return logits.softmax(-1)
    return logits if max_logits is None else logits.sub_(max_logits).exp_()


def _max_cached_logits(device: torch.device) -> int:
    """Maximum number of logits that are cached for the backward pass."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // CUDA_BYTES_PER_CACHED_LOGIT)
    return MAX_CACHED_LOGITS
