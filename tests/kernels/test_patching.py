"""Layers that compute by the kernels give what transformers' own give, and only those that do are replaced."""

import pytest
import torch
from tiny import FAMILIES, tiny_model
from torch import nn

from zhenlong.forest import forward, log_probs, make_tree, pack_trees
from zhenlong.kernels import attention, fused_ops, onednn_linear, patching
from zhenlong.kernels.build import kernels_disabled, load_library

pytestmark = pytest.mark.skipif(load_library() is None, reason="no C compiler here")


def replaced(model):
    """The names of the functions that replaced forward passes, by class of layer."""
    found = {}
    for module in model.modules():
        if "forward" in module.__dict__ and type(module) is not nn.Linear:
            found.setdefault(type(module).__name__, module.forward.__func__.__name__)
    return found


def loss_and_gradients(model, ids):
    model.zero_grad()
    loss = model(ids, labels=ids).loss
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_model_with_kernels_has_the_same_loss_and_gradients(family):
    model = tiny_model(family)
    ids = torch.randint(0, 250, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):  # norms whose weights are not all one
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    expected = loss_and_gradients(model, ids)
    patching.patch_model(model)
    for one, other in zip(loss_and_gradients(model, ids), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-5)
    patching.unpatch_model(model)
    assert all("forward" not in module.__dict__ for module in model.modules())
    for one, other in zip(loss_and_gradients(model, ids), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("family", "expected"), [
    ("llama", {"LlamaRMSNorm": "_rms_norm_forward", "LlamaMLP": "_swiglu_mlp_forward", "LlamaAttention": "forward"}),
    ("qwen3", {"Qwen3RMSNorm": "_rms_norm_forward", "Qwen3MLP": "_swiglu_mlp_forward", "Qwen3Attention": "forward"}),
    ("gemma", {"GemmaAttention": "forward"}),  # its norms add one to the weight, its units have another activation
    ("gpt2", {}),
])  # fmt: skip
def test_layers_are_replaced_where_the_kernel_computes_the_same(family, expected):
    model = tiny_model(family)
    patching.patch_model(model)
    assert replaced(model) == expected


def test_batches_and_precisions_that_kernels_do_not_serve_are_computed_by_the_layers_own_passes(monkeypatch):
    monkeypatch.setattr(onednn_linear, "BF16_MATMUL_SUPPORTED", False)
    model, plain = tiny_model("llama"), tiny_model("llama")
    patching.patch_model(model)
    ids = torch.randint(0, 250, (3, 20), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=0, atol=0)
    with kernels_disabled():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.double()(ids).logits, plain.double()(ids).logits)


@pytest.mark.skipif(not onednn_linear.ONEDNN_AVAILABLE, reason="layers do not compute by oneDNN here")
def test_mixed_precision_leaves_all_but_products_to_the_kernels_and_is_near_fp32(monkeypatch):
    monkeypatch.setattr(onednn_linear, "BF16_MATMUL_SUPPORTED", True)
    model = tiny_model("llama")
    patching.patch_model(model)
    forest = pack_trees([make_tree(range(20), [range(30, 45), range(50, 53)])])
    found = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            scored = log_probs(model, forward(model, forest), forest)
            scored.mean().backward()
            heads = torch.zeros(3, 2, 8)
            served = attention.supports(heads, heads, 0.0, None), fused_ops.supports(heads)
        assert served == (load_library() is not None,) * 2
        found.append(torch.cat([scored.detach(), *(part.grad.flatten() for part in model.parameters())]))
        model.zero_grad()
    assert 0 < (found[1] - found[0]).norm() / found[0].norm() < 0.02


@pytest.mark.parametrize("width", [1, 15, 16, 33, 128])
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_norms_and_units_of_any_width(width, rows):
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(rows, 2 * width, generator=generator)
    weight = torch.randn(width, generator=generator)
    weights = torch.randn(rows, width, generator=generator)

    def norm(states, weight):
        return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6) * weight

    cases = [
        (lambda x, w: fused_ops.rms_norm(x[:, width:], w, 1e-6), lambda x, w: norm(x[:, width:], w)),
        (lambda x, w: fused_ops.swiglu(x[:, :width], x[:, width:]) + 0 * w,
         lambda x, w: nn.functional.silu(x[:, :width]) * x[:, width:] + 0 * w),
    ]  # fmt: skip
    for ours, theirs in cases:
        found = []
        for function in (ours, theirs):
            given = [both.clone().requires_grad_(), weight.clone().requires_grad_()]
            out = function(*given)
            found.append([out, *torch.autograd.grad((out * weights).sum(), given)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)


def test_gates_far_from_zero_neither_overflow_nor_vanish():
    gate = torch.tensor([[-200.0, -89.0, -20.0, 0.0, 20.0, 89.0, 200.0]], requires_grad=True)
    out = fused_ops.swiglu(gate, torch.ones(1, 7))
    torch.testing.assert_close(out, nn.functional.silu(gate), rtol=1e-5, atol=1e-30)
    assert torch.autograd.grad(out.sum(), gate)[0].isfinite().all()
