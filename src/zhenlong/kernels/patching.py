"""Replaces the forward pass of a model's linear layers, RMSNorms, SwiGLU MLPs and (CUDA) rotary embeddings by kernels.

`patch_model` sets `forward` on the instances and touches nothing else: classes, parameters, names and hooks stay, and
a saved model is a plain one. `unpatch_model` removes it again. A patched forward calls the layer's own for every input
that the kernels do not support. A layer is patched only if a kernel reproduces its output on random inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

import torch
from torch import nn

from zhenlong.kernels import fused_ops, onednn_linear, triton_ops
from zhenlong.kernels.build import kernels_enabled

ROPE_FUNCTION: Final = "apply_rotary_pos_emb"  # its name in transformers' modelling files
KERNEL_TOLERANCE: Final = 1e-5
Forward = Callable[..., Any]


def patch_model(model: nn.Module) -> None:
    """Use the kernels, if enabled, in every layer whose output they reproduce; skip what another library patched."""
    unpatch_model(model)
    if not kernels_enabled():
        return
    forward_of_type: dict[Any, Forward | None] = {}
    weight = next(model.parameters())
    fused_ops_supported = fused_ops.supports_fused_ops(weight)
    for module in model.modules():
        forward: Forward | None = None
        if "forward" in module.__dict__:  # such as that of accelerate's hooks
            continue
        if type(module) is nn.Linear:
            forward = _linear_forward if onednn_linear.ONEDNN_AVAILABLE and module.weight.device.type == "cpu" else None
        elif fused_ops_supported:
            key = (type(module), type(getattr(module, "act_fn", None)))
            if key not in forward_of_type:
                forward_of_type[key] = (
                    _rms_norm_forward_of(module) or _swiglu_forward_of(module) or _attention_forward_of(module, weight)
                )
            forward = forward_of_type[key]
        if forward is not None:
            forward.is_kernel_forward = True  # type: ignore[attr-defined]
            module.forward = MethodType(forward, module)


def unpatch_model(model: nn.Module) -> None:
    """Undo `patch_model`: every layer has the forward pass of its class again."""
    for module in model.modules():
        if hasattr(getattr(module.__dict__.get("forward"), "__func__", None), "is_kernel_forward"):
            del module.forward


def _linear_forward(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    return onednn_linear.linear(states, layer.weight, layer.bias)


def _rms_norm_forward(layer: Any, states: torch.Tensor) -> torch.Tensor:
    if not fused_ops.supports_fused_ops(states, layer.weight):
        return type(layer).forward(layer, states)
    return fused_ops.rms_norm(states, layer.weight, layer.variance_epsilon)


def _swiglu_mlp_forward(layer: Any, states: torch.Tensor) -> torch.Tensor:
    gate, up = layer.gate_proj(states), layer.up_proj(states)
    return layer.down_proj(
        fused_ops.swiglu(gate, up) if fused_ops.supports_fused_ops(gate, up) else layer.act_fn(gate) * up
    )


def _rms_norm_forward_of(module: Any) -> Forward | None:
    weight = getattr(module, "weight", None)
    if not isinstance(getattr(module, "variance_epsilon", None), float) or weight is None or weight.dim() != 1:
        return None
    return (
        _rms_norm_forward
        if len(weight) <= triton_ops.MAX_NORM_WIDTH and _same_output(module, _rms_norm_forward, len(weight))
        else None
    )


def _swiglu_forward_of(module: Any) -> Forward | None:
    parts = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))
    if not all(isinstance(part, nn.Module) for part in parts):
        return None
    return _swiglu_mlp_forward if _same_output(module, _swiglu_mlp_forward, module.gate_proj.weight.shape[1]) else None


def _same_output(module: nn.Module, forward: Forward, width: int) -> bool:
    """Whether the class's forward and `forward` agree on random inputs, in fp32."""
    weight = next(module.parameters())
    if weight.dtype != torch.float32:
        module = copy.deepcopy(module).float()
    states = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)).to(weight.device)
    return _all_close(lambda: type(module).forward(module, states), lambda: forward(module, states))


@torch.no_grad()
def _all_close(theirs: Callable[[], Any], ours: Callable[[], Any]) -> bool:
    try:
        torch.testing.assert_close(ours(), theirs(), rtol=KERNEL_TOLERANCE, atol=KERNEL_TOLERANCE)
    except (AssertionError, TypeError, ValueError, RuntimeError, AttributeError):
        return False
    return True


def _attention_forward_of(module: nn.Module, weight: torch.Tensor) -> Forward | None:
    """The attention layer's own forward with its call of `apply_rotary_pos_emb` redirected to the kernel."""
    own = type(module).forward
    if not triton_ops.supports_triton(weight) or ROPE_FUNCTION not in getattr(
        getattr(own, "__code__", None), "co_names", ()
    ):
        return None
    theirs: Forward | None = own.__globals__.get(ROPE_FUNCTION)
    if theirs is None:
        return None

    def apply_rope(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *others: Any, **named: Any
    ) -> Any:
        if (
            others
            or named
            or not triton_ops.supports_triton(q, k, cos, sin)
            or not (_rope_shapes_fit(q, cos, sin) and _rope_shapes_fit(k, cos, sin))
        ):
            return theirs(q, k, cos, sin, *others, **named)
        return fused_ops.rope(q, cos, sin), fused_ops.rope(k, cos, sin)

    shapes = ((1, 3, 5, 8), (1, 2, 5, 8), (1, 5, 8), (1, 5, 8))
    generator = torch.Generator().manual_seed(0)
    probes = [torch.randn(shape, generator=generator).to(weight.device) for shape in shapes]
    if not _all_close(lambda: theirs(*probes), lambda: apply_rope(*probes)):
        return None
    namespace = {**own.__globals__, ROPE_FUNCTION: apply_rope}
    forward = FunctionType(own.__code__, namespace, own.__name__, own.__defaults__, own.__closure__)
    forward.__kwdefaults__ = own.__kwdefaults__
    return forward


def _rope_shapes_fit(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> bool:
    """Whether states are [1, H, N, D] with whole heads rotated, by cosines and sines that need no gradient."""
    return (
        states.dim() == 4
        and len(states) == 1
        and states.shape[3] % 2 == 0
        and cos.shape == sin.shape == (1, *states.shape[2:])
        and not cos.requires_grad
        and not sin.requires_grad
    )
