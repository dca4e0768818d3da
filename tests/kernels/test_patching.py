"""Patched layers compute what transformers' own compute, only those are patched, and unpatching leaves no trace."""

import pytest
import torch
from tiny import FAMILIES, tiny_model, tiny_tokenizer
from torch import nn
from transformers import AutoModelForCausalLM

from zhenlong.forest import forward, log_probs, make_tree, pack_trees
from zhenlong.kernels import attention, fused_ops, onednn_linear, patching
from zhenlong.kernels.build import kernels_disabled, load_library
from zhenlong.models import save_model

pytestmark = pytest.mark.skipif(load_library() is None, reason="no C compiler here")


def patched_forwards(model):
    """The names of the functions that replaced forward passes, by class of layer."""
    found = {}
    for module in model.modules():
        if "forward" in module.__dict__ and type(module) is not nn.Linear:
            found.setdefault(type(module).__name__, module.forward.__func__.__name__)
    return found


def token_ids(*shape):
    return torch.randint(0, 250, shape, generator=torch.Generator().manual_seed(0))


def loss_and_gradients(model, ids):
    model.zero_grad()
    loss = model(ids, labels=ids).loss
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)]


def instance_state(model):
    """What a patch could leave behind in each submodule: its class, the class's forward, attributes and hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")
    return {
        name: (type(module), type(module).forward, set(module.__dict__), [dict(getattr(module, one)) for one in hooks])
        for name, module in model.named_modules()
    }


def output_of_each_submodule(model, ids):
    outputs, handles = {}, []
    for name, module in model.named_modules():
        keep = lambda module, given, output, name=name: outputs.update({name: output})  # noqa: E731
        handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return {
        name: [part for part in (output if isinstance(output, tuple) else (output,)) if isinstance(part, torch.Tensor)]
        for name, output in outputs.items()
    }


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_patched_model_has_the_same_loss_and_gradients(family):
    model = tiny_model(family)
    ids = token_ids(1, 40)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):  # norms whose weights are not all one
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    expected = loss_and_gradients(model, ids)
    patching.patch_model(model)
    for one, other in zip(loss_and_gradients(model, ids), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_unpatching_restores_every_submodule(family):
    model, ids = tiny_model(family), token_ids(2, 20)
    state, outputs = instance_state(model), output_of_each_submodule(model, ids)
    patching.patch_model(model)
    assert any("forward" in module.__dict__ for module in model.modules()) or not onednn_linear.ONEDNN_AVAILABLE
    patching.patch_model(model)  # twice is once
    patching.unpatch_model(model)
    assert instance_state(model) == state
    again = output_of_each_submodule(model, ids)
    assert again.keys() == outputs.keys()
    for name, parts in outputs.items():
        assert all(torch.equal(*pair) for pair in zip(parts, again[name], strict=True)), name


def test_patching_adds_nothing_but_a_forward_to_an_instance():
    model = tiny_model("llama")
    before = instance_state(model)
    patching.patch_model(model)
    for name, (kind, own_forward, attributes, hooks) in instance_state(model).items():
        assert (kind, own_forward, attributes - {"forward"}, hooks) == before[name]


def test_a_model_saved_while_patched_is_a_plain_one(tmp_path):
    model, ids = tiny_model("llama"), token_ids(2, 20)
    logits = model(ids).logits
    save_model(model, tiny_tokenizer(), tmp_path / "plain")
    patching.patch_model(model)
    save_model(model, tiny_tokenizer(), tmp_path / "patched")
    plain, patched = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("plain", "patched")
    )
    assert patched == plain
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "patched", dtype=torch.float32).eval()
    assert not any("forward" in module.__dict__ for module in loaded.modules())
    assert torch.equal(loaded(ids).logits, logits)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gpt2"])
def test_a_patched_model_computes_the_bits_of_the_plain_one_while_kernels_are_disabled(family):
    model, plain, ids = tiny_model(family), tiny_model(family), token_ids(1, 40)
    patching.patch_model(model)
    with kernels_disabled():
        for one, other in zip(loss_and_gradients(model, ids), loss_and_gradients(plain, ids), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("by_environment", [True, False])
def test_nothing_is_patched_while_kernels_are_disabled(by_environment, monkeypatch):
    model = tiny_model("llama")
    if by_environment:
        monkeypatch.setenv("ZHENLONG_KERNELS", "0")
        patching.patch_model(model)
    else:
        with kernels_disabled():
            patching.patch_model(model)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_forward_that_another_library_set_stays():
    model = tiny_model("llama")
    layer = model.model.norm
    layer.forward = other = lambda states: states * 2
    patching.patch_model(model)
    assert layer.forward is other
    assert "forward" in model.model.layers[0].mlp.__dict__
    patching.unpatch_model(model)
    assert layer.forward is other


@pytest.mark.parametrize(("family", "expected"), [
    ("llama", {"LlamaRMSNorm": "_rms_norm_forward", "LlamaMLP": "_swiglu_mlp_forward"}),
    ("qwen3", {"Qwen3RMSNorm": "_rms_norm_forward", "Qwen3MLP": "_swiglu_mlp_forward"}),
    ("gemma", {}),  # its norms add one to the weight, its MLP uses GELU
    ("gpt2", {}),
])  # fmt: skip
def test_layers_are_patched_where_the_kernel_computes_the_same(family, expected):
    model = tiny_model(family)
    patching.patch_model(model)
    assert patched_forwards(model) == expected


def test_unsupported_batches_and_dtypes_use_the_layers_own_forward(monkeypatch):
    monkeypatch.setattr(onednn_linear, "BF16_MATMUL_SUPPORTED", False)
    model, plain = tiny_model("llama"), tiny_model("llama")
    patching.patch_model(model)
    ids = token_ids(3, 20)
    torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=0, atol=0)
    torch.testing.assert_close(model.double()(ids).logits, plain.double()(ids).logits)


@pytest.mark.skipif(not onednn_linear.ONEDNN_AVAILABLE, reason="this PyTorch has no oneDNN linear layers")
def test_mixed_precision_uses_bf16_in_matmuls_only_and_stays_near_fp32(monkeypatch):
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
            supported = (
                attention.supports_attention(heads, heads, attention.AttentionSettings()),
                fused_ops.supports_fused_ops(heads),
            )
        assert supported == (load_library() is not None,) * 2
        found.append(torch.cat([scored.detach(), *(part.grad.flatten() for part in model.parameters())]))
        model.zero_grad()
    assert 0 < (found[1] - found[0]).norm() / found[0].norm() < 0.02


@pytest.mark.parametrize("width", [1, 15, 16, 33, 128])
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_rms_norm_and_swiglu_of_any_width(width, rows):
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


def test_swiglu_of_extreme_gates_is_finite():
    gate = torch.tensor([[-200.0, -89.0, -20.0, 0.0, 20.0, 89.0, 200.0]], requires_grad=True)
    out = fused_ops.swiglu(gate, torch.ones(1, 7))
    torch.testing.assert_close(out, nn.functional.silu(gate), rtol=1e-5, atol=1e-30)
    assert torch.autograd.grad(out.sum(), gate)[0].isfinite().all()
