"""oneDNN's linear layers equal torch's, forward and backward; unsupported inputs are left to torch."""

import copy

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from zhenlong.kernels import onednn_linear
from zhenlong.kernels.build import kernels_disabled
from zhenlong.models import compile_layers, load_model, save_model

needs_onednn = pytest.mark.skipif(not onednn_linear.ONEDNN_AVAILABLE, reason="this PyTorch has no oneDNN linear layers")


@pytest.mark.parametrize("shape", [(1, 5, 8), (3, 7, 8), (64, 33, 8), (5, 8, 33)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("onednn", [True, False])
def test_outputs_and_gradients_equal_those_of_torch(shape, bias, onednn, monkeypatch):
    monkeypatch.setattr(onednn_linear, "ONEDNN_WEIGHT_GRADIENT", onednn)
    rows, inputs, outputs = shape
    generator = torch.Generator().manual_seed(rows)
    results = []
    states = torch.randn(2, rows, inputs, generator=generator)
    weight = torch.randn(outputs, inputs, generator=generator)
    offset = torch.randn(outputs, generator=generator) if bias else None
    slope = torch.linspace(-1, 1, 2 * rows * outputs).view(2, rows, outputs)
    for function in (onednn_linear.linear, torch.nn.functional.linear):
        given = [None if part is None else part.clone().requires_grad_() for part in (states, weight, offset)]
        out = function(*given)
        (out * slope).sum().backward()
        results.append([out.detach(), *(part.grad for part in given if part is not None)])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-5)


def test_an_expanded_output_gradient_is_supported():
    weight = torch.randn(4, 3, requires_grad=True)
    onednn_linear.linear(torch.randn(5, 3), weight, None).sum().backward()
    assert weight.grad is not None


def test_prepacked_weights_and_in_place_sums():
    rows, weight, sums = torch.randn(6, 9), torch.randn(4, 9), torch.randn(6, 4)
    expected = sums + rows @ weight.t()
    torch.testing.assert_close(
        onednn_linear.add_linear(sums.clone(), rows, onednn_linear.prepack_weight(weight, 64)), expected
    )
    torch.testing.assert_close(
        onednn_linear.linear_no_grad(rows, onednn_linear.prepack_weight(weight, 64)), rows @ weight.t()
    )


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weight_gradients_and_their_sums(onednn, dtype, monkeypatch):
    monkeypatch.setattr(onednn_linear, "ONEDNN_WEIGHT_GRADIENT", onednn)
    wide, narrow = torch.randn(6, 9).to(dtype), torch.randn(6, 4).to(dtype)
    for left, right in ((wide, narrow), (narrow, wide)):
        expected = (left.double().t() @ right.double()).float()
        sums = torch.full(expected.shape, 0.5)
        onednn_linear.add_weight_gradient(sums, left, right)
        rounding = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.01}
        torch.testing.assert_close(onednn_linear.weight_gradient(left, right).float(), expected, **rounding)
        torch.testing.assert_close(sums, 0.5 + expected, **rounding)


@needs_onednn
@pytest.mark.parametrize(("onednn", "calls"), [(True, 1), (False, 0)])
def test_the_flag_selects_the_library_of_weight_gradients(onednn, calls, monkeypatch):
    monkeypatch.setattr(onednn_linear, "ONEDNN_WEIGHT_GRADIENT", onednn)
    found = []
    monkeypatch.setattr(onednn_linear, "linear_no_grad", lambda *given: found.append(given) or given[0] @ given[1].t())
    onednn_linear.weight_gradient(torch.randn(6, 4), torch.randn(6, 9))
    assert len(found) == calls


@pytest.mark.parametrize(
    ("dtype", "autocast"), [(torch.float64, False), (torch.bfloat16, False), (torch.float32, True)]
)
def test_unsupported_dtypes_are_left_to_torch(dtype, autocast, monkeypatch):
    monkeypatch.setattr(onednn_linear, "BF16_MATMUL_SUPPORTED", False)
    states, weight = torch.randn(3, 5, dtype=dtype), torch.randn(4, 5, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert not onednn_linear.supports_linear(states)
        out = onednn_linear.linear(states, weight, None)
        assert torch.equal(out, torch.nn.functional.linear(states, weight))


@needs_onednn
def test_disabled_kernels_leave_linear_layers_to_torch_but_can_read_prepacked_weights():
    states, weight = torch.randn(6, 9), torch.randn(4, 9)
    packed = onednn_linear.prepack_weight(weight, 64)
    with kernels_disabled():
        assert torch.equal(onednn_linear.linear(states, weight, None), torch.nn.functional.linear(states, weight))
        assert not onednn_linear.supports_linear(states)
        torch.testing.assert_close(onednn_linear.linear_no_grad(states, packed), states @ weight.t())
        sums = torch.ones(6, 4)
        torch.testing.assert_close(onednn_linear.add_linear(sums, states, packed), 1 + states @ weight.t())


def test_autocast_rounds_both_operands_of_every_matmul_to_bf16_and_returns_fp32(monkeypatch):
    monkeypatch.setattr(onednn_linear, "BF16_MATMUL_SUPPORTED", True)
    states, weight, bias, slope = (torch.randn(*shape) for shape in ((2, 3, 8), (4, 8), (4,), (2, 3, 4)))
    given = [part.clone().requires_grad_() for part in (states, weight, bias)]
    with torch.autocast("cpu", torch.bfloat16):
        out = onednn_linear.linear(*given)
        out.backward(slope)
    rounded_states, rounded_weight, rounded_slope = (part.bfloat16().float() for part in (states, weight, slope))
    rows, slopes = rounded_states.view(-1, 8), rounded_slope.view(-1, 4)
    expected = (rounded_states @ rounded_weight.t() + bias, rounded_slope @ rounded_weight, slopes.t() @ rows)
    for found, right in zip((out, given[0].grad, given[1].grad), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, right, rtol=2**-7, atol=0.02)  # the result is rounded once more
    torch.testing.assert_close(given[2].grad, slope.sum((0, 1)))
    with torch.autocast("cpu", torch.float16):
        assert not onednn_linear.bf16_matmul_active()


@needs_onednn
def test_a_loaded_model_uses_onednn_under_its_own_names_and_a_copy_has_its_own_weights(tmp_path):
    model = tiny_model("llama")
    save_model(model, tiny_tokenizer(), tmp_path / "model")
    loaded, _ = load_model(str(tmp_path / "model"), device="cpu")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    ids = torch.arange(20)[None]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        logits = loaded(ids).logits
    assert sum(event.name == "mkldnn::_linear_pointwise" for event in profiler.events()) >= 7 * 2
    torch.testing.assert_close(logits, model(ids).logits, atol=1e-4, rtol=1e-4)
    other = copy.deepcopy(loaded)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(ids).logits.any()
    torch.testing.assert_close(loaded(ids).logits, logits)
    compile_layers(loaded, backend="eager")
    assert all("forward" not in module.__dict__ for module in loaded.modules())
