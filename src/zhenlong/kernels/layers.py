"""Which layers of a model compute by the kernels: linear ones, root-mean-square norms, gated units, rotations.

Layers stay what they are: classes, parameters, names, hooks. Their forward pass is another one, which hands back to the
layer's own whatever the kernels do not serve. Whether a layer computes what a kernel does is tried, not assumed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

import torch
from torch import nn

from zhenlong.kernels import cuda, elementwise, products

ROTATION: Final = "apply_rotary_pos_emb"  # what transformers' modelling files call the rotation of queries and keys
TOLERANCE: Final = 1e-5
Forward = Callable[..., Any]


def use_in(model: nn.Module) -> None:
    """Let the model's layers compute by the kernels where these compute the same."""
    known: dict[Any, Forward | None] = {}
    weight = next(model.parameters())
    compiled = elementwise.serves(weight)
    for module in model.modules():
        forward: Forward | None = None
        if type(module) is nn.Linear:
            forward = _linear if products.HERE and module.weight.device.type == "cpu" else None
        elif compiled:
            key = (type(module), type(getattr(module, "act_fn", None)))
            if key not in known:
                known[key] = _norm_of(module) or _unit_of(module) or _attention_of(module, weight.device)
            forward = known[key]
        if forward is not None:
            forward.by_kernels = True  # type: ignore[attr-defined]
            module.forward = MethodType(forward, module)


def unused_in(model: nn.Module) -> None:
    """Give the model's layers their own forward pass back."""
    for module in model.modules():
        if hasattr(getattr(module.__dict__.get("forward"), "__func__", None), "by_kernels"):
            del module.forward


def _linear(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    return products.linear(states, layer.weight, layer.bias)


def _norm(layer: Any, states: torch.Tensor) -> torch.Tensor:
    if not elementwise.serves(states, layer.weight):
        return type(layer).forward(layer, states)
    return elementwise.rms_norm(states, layer.weight, layer.variance_epsilon)


def _unit(layer: Any, states: torch.Tensor) -> torch.Tensor:
    gate, up = layer.gate_proj(states), layer.up_proj(states)
    return layer.down_proj(elementwise.gated(gate, up) if elementwise.serves(gate, up) else layer.act_fn(gate) * up)


def _norm_of(module: Any) -> Forward | None:
    weight = getattr(module, "weight", None)
    if not isinstance(getattr(module, "variance_epsilon", None), float) or weight is None or weight.dim() != 1:
        return None
    return _norm if len(weight) <= cuda.WIDEST_NORM and _same(module, _norm, len(weight)) else None


def _unit_of(module: Any) -> Forward | None:
    parts = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))
    if not all(isinstance(part, nn.Module) for part in parts):
        return None
    return _unit if _same(module, _unit, module.gate_proj.weight.shape[1]) else None


def _same(module: nn.Module, forward: Forward, width: int) -> bool:
    """Whether both compute the same of a few random states, in fp32."""
    weight = next(module.parameters())
    if weight.dtype != torch.float32:
        module = copy.deepcopy(module).float()
    states = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)).to(weight.device)
    return _agree(lambda: type(module).forward(module, states), lambda: forward(module, states))


@torch.no_grad()
def _agree(theirs: Callable[[], Any], ours: Callable[[], Any]) -> bool:
    try:
        torch.testing.assert_close(ours(), theirs(), rtol=TOLERANCE, atol=TOLERANCE)
    except (AssertionError, TypeError, ValueError, RuntimeError, AttributeError):
        return False
    return True


def _attention_of(module: nn.Module, device: torch.device) -> Forward | None:
    """The forward pass of an attention layer that rotates by the kernel: its own but for the function of that name."""
    own = type(module).forward
    if ROTATION not in getattr(getattr(own, "__code__", None), "co_names", ()):
        return None
    theirs: Forward | None = own.__globals__.get(ROTATION)
    if theirs is None:
        return None

    def rotation(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *others: Any, **named: Any
    ) -> Any:
        if others or named or not elementwise.serves(q, k, cos, sin) or not (_fits(q, cos, sin) and _fits(k, cos, sin)):
            return theirs(q, k, cos, sin, *others, **named)
        return elementwise.rotated(q, cos, sin), elementwise.rotated(k, cos, sin)

    shapes = ((1, 3, 5, 8), (1, 2, 5, 8), (1, 5, 8), (1, 5, 8))
    generator = torch.Generator().manual_seed(0)
    tried = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    if not _agree(lambda: theirs(*tried), lambda: rotation(*tried)):
        return None
    scope = {**own.__globals__, ROTATION: rotation}
    forward = FunctionType(own.__code__, scope, own.__name__, own.__defaults__, own.__closure__)
    forward.__kwdefaults__ = own.__kwdefaults__
    return forward


def _fits(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> bool:
    """[1, H, N, D], with whole heads turned by angles that are no parameters."""
    return (
        states.dim() == 4
        and len(states) == 1
        and states.shape[3] % 2 == 0
        and cos.shape == sin.shape == (1, *states.shape[2:])
        and not cos.requires_grad
        and not sin.requires_grad
    )
