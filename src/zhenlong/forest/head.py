"""From hidden states to log-probabilities: the output head on scored positions only, in chunks.

The logits of all positions, [N, vocabulary], never exist. Those of the first chunks are kept for the backward pass, up
to a number that depends on neither vocabulary nor length, and those of all other chunks are computed again. Logits in
half precision are not widened: softmax reads them as they are, computes in fp32, and what is written is half as much.

Shapes: M scored tokens, d hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.forest.planting import Forest
from zhenlong.kernels.products import add_outer, product
from zhenlong.kernels.softmax import raised, serves
from zhenlong.kernels.softmax import scored as by_kernel

# By kind of device. A GPU needs chunks of a thousand rows and more to be busy with a vocabulary of 150,000.
CHUNK_LOGITS: Final = {"cpu": 1 << 20, "cuda": 1 << 28}  # logits computed at a time: 4 MB in fp32, 1 GB
LEAST_ROWS: Final = 128  # that a chunk has in any case: products of fewer rows are slow
GOOD_ROWS: Final = 256, 1 << 23  # that it has where they are no more logits than that: a tenth of the head's time
KEPT_LOGITS: Final = 1 << 24  # on a CPU, kept for backward rather than computed again: 64 MB
BYTES_OF_CUDA: Final = 32  # of the device's memory for each logit kept: in half precision they take a sixteenth of it


@dataclass(frozen=True)
class Head:
    """An output layer: logits = cap(scale * (hidden @ weight.T + bias)), cap(x) = softcap * tanh(x / softcap)."""

    weight: torch.Tensor  # [V, d]
    bias: torch.Tensor | None  # [V]
    scale: float = 1.0
    softcap: float | None = None


def head_of(model: PreTrainedModel) -> Head:
    """The model's output layer with the scaling its configuration asks for. Raises `UserError` if it is not linear."""
    layer = model.get_output_embeddings()
    if type(layer) is not nn.Linear:
        found = type(layer).__name__
        raise UserError(f"output layer: expected a plain linear one, got {found}; leave it out of lora_targets")
    config = model.config.get_text_config()
    scale = 1.0
    if getattr(config, "logits_scaling", None):  # Granite divides
        scale /= config.logits_scaling
    if getattr(config, "logit_scale", None):  # Cohere multiplies
        scale *= config.logit_scale
    return Head(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))


def log_probs(
    model: PreTrainedModel, states: torch.Tensor, forest: Forest, temperature: float = 1.0, entropy: bool = False
) -> Any:
    """Log-probability of each scored token, [M], in float32; with `entropy`, also the entropy [M] of each prediction.

    `states` [M, d] come from `forward`. The logits are divided by `temperature` first, as they were when sampling. The
    entropy carries no gradient.
    """
    head = head_of(model)
    weight, bias = head.weight, head.bias
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states, weight = states.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    settings = (head.scale, head.softcap, temperature)
    scored, spread = _LogProbs.apply(states, weight, bias, forest.target, settings, entropy)
    return (scored, spread) if entropy else scored


class _LogProbs(torch.autograd.Function):
    """log softmax(logits / temperature)[target], with logits made, used and dropped chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        target: torch.Tensor,
        settings: tuple[float, float | None, float],
        entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows, vocabulary, device = len(target), len(weight), states.device
        size = _rows_of_a_chunk(vocabulary, device)
        scored, tops, sums = (torch.empty(rows, dtype=torch.float32, device=device) for _ in range(3))
        spread = torch.empty_like(scored) if entropy else None
        keeps = any(ctx.needs_input_grad) and settings[1] is None  # a soft cap's slope needs the logits
        room = _most_kept(device) if keeps else 0
        kept, compiled = [], False
        for start in range(0, rows, size):
            part = slice(start, start + size)
            powers = _logits(states[part], weight, bias, settings)
            compiled = serves(powers)
            if compiled:
                scored[part], tops[part], sums[part], spreads = by_kernel(powers, target[part], entropy)
            else:
                scored[part], tops[part], sums[part], spreads, powers = _scored(powers, target[part, None], entropy)
            if spread is not None and spreads is not None:
                spread[part] = spreads
            room -= powers.numel()
            if room >= 0:
                kept.append(powers)
            del powers  # before the next chunk is made
        ctx.save_for_backward(states, weight, bias, target, scored, tops, sums, *kept)
        ctx.settings, ctx.size, ctx.compiled = settings, size, compiled
        if spread is not None:
            ctx.mark_non_differentiable(spread)
        return scored, spread

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        states, weight, bias, target, scored, tops, sums, *kept = ctx.saved_tensors
        scale, softcap, temperature = ctx.settings
        to_states, to_weight, to_bias = ctx.needs_input_grad[:3]
        d_states = torch.empty_like(states) if to_states else None
        # Summed over chunks in fp32: adding many bf16 chunks would lose the small ones.
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if to_weight else None
        d_bias = torch.zeros(len(weight), dtype=torch.float32, device=weight.device) if to_bias else None
        for number, start in enumerate(range(0, len(target), ctx.size)):
            part = slice(start, start + ctx.size)
            slope = None
            if number < len(kept):
                d_logits = kept[number] if ctx.compiled else _powers(kept[number])
            else:
                d_logits = _logits(states[part], weight, bias, ctx.settings)
                slope = None if softcap is None else 1 - (d_logits * (temperature / softcap)).square()
                d_logits = raised(d_logits, tops[part]) if ctx.compiled else _powers(d_logits, tops[part, None])
            # d log p / d logits = one-hot - softmax, here with its sign turned and times the sum of the powers; at the
            # target 1 - p, exact where p is near 1. Each row's own factor is left to the products, whose sides are far
            # smaller than the logits.
            at_target = torch.expm1(scored[part, None]) * sums[part, None]
            d_logits.scatter_(1, target[part, None], at_target.to(d_logits.dtype))
            if slope is not None:
                d_logits.mul_(slope)
            d_logits = d_logits.to(states.dtype)
            factor = (gradient[part] * (-scale / temperature) / sums[part])[:, None]
            if d_states is not None:
                d_states[part] = product(d_logits, weight.t()).mul_(factor)
            if d_weight is not None:
                add_outer(d_weight, d_logits, (states[part] * factor).to(states.dtype))
            if d_bias is not None:
                d_bias += (d_logits.T @ factor.to(states.dtype)).squeeze(1)
            del d_logits
        cast_weight = None if d_weight is None else d_weight.to(weight.dtype)
        cast_bias = None if d_bias is None else d_bias.to(weight.dtype)
        return d_states, cast_weight, cast_bias, None, None, None


def _rows_of_a_chunk(vocabulary: int, device: torch.device) -> int:
    rows, most = GOOD_ROWS
    least = min(rows, max(LEAST_ROWS, most // vocabulary))
    return max(least, CHUNK_LOGITS.get(device.type, CHUNK_LOGITS["cpu"]) // vocabulary)


def _logits(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, settings: tuple[float, float | None, float]
) -> torch.Tensor:
    """[rows, V] in fp32, scaled, capped and divided by the temperature; where that is nothing, as the product is."""
    scale, softcap, temperature = settings
    logits = product(states, weight, bias)
    if settings == (1.0, None, 1.0):
        return logits
    logits = logits.float()
    if scale != 1.0:
        logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits if temperature == 1.0 else logits / temperature


def _scored(
    logits: torch.Tensor, target: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Of each row: the target's log-probability, the largest logit, the sum of powers, the entropy if asked for.

    In fp32. The last result is what `_powers` makes powers of, [rows, V]: themselves (`logits` are overwritten), or in
    half precision the logits.
    """
    if logits.dtype != torch.float32:
        every = logits.log_softmax(-1, dtype=torch.float32)
        spread = -torch.linalg.vecdot(every.exp(), every) if entropy else None
        scored = every.gather(1, target).squeeze(1)
        return scored, torch.zeros_like(scored), torch.ones_like(scored), spread, logits
    top = logits.amax(-1, keepdim=True)
    found = logits.gather(1, target) - top
    shifted = logits.sub_(top)
    powers = shifted.exp() if entropy else shifted.exp_()
    sums = powers.sum(-1)
    log = sums.log()
    spread = log - torch.linalg.vecdot(powers, shifted) / sums if entropy else None
    return found.squeeze(1) - log, top.squeeze(1), sums, spread, powers


def _powers(given: torch.Tensor, top: torch.Tensor | None = None) -> torch.Tensor:
    """exp(logits - top), from logits, which are overwritten, or themselves without `top`; in half precision softmax."""
    if given.dtype != torch.float32:
        return given.softmax(-1)
    return given if top is None else given.sub_(top).exp_()


def _most_kept(device: torch.device) -> int:
    """Logits that are kept for the backward pass at most."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // BYTES_OF_CUDA)
    return KEPT_LOGITS
