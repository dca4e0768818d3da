"""The CUDA kernels equal PyTorch's operations; without a CUDA device Triton interprets them on the CPU."""

import importlib.util

import pytest
import torch
from tiny import tiny_model
from torch.nn.functional import rms_norm, silu

from zhenlong.kernels import fused_ops, patching, triton_ops
from zhenlong.kernels.build import kernels_disabled

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Without a CUDA device, interpret the kernels on the CPU by making device checks return true."""
    if DEVICE == "cuda":
        return
    monkeypatch.setattr(triton_ops, "is_on_cuda", lambda states: True)
    monkeypatch.setattr(triton_ops, "_triton_works", lambda: True)


def random(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_()


def assert_same(ours, theirs, given, dtype):
    """Compare the results, and the gradients of all inputs for one output gradient."""
    slope = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    limits = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (2e-2, 2e-2)}[dtype]
    found = [ours, *torch.autograd.grad(ours, given, slope.to(ours.dtype))]
    expected = [theirs, *torch.autograd.grad(theirs, given, slope.to(theirs.dtype))]
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == other.dtype
        scale = max(1.0, float(other.detach().float().abs().max()))
        torch.testing.assert_close(mine.float(), other.float(), rtol=limits[0], atol=limits[1] * scale)


PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@PRECISIONS
@pytest.mark.parametrize(("rows", "width"), [(1, 8), (37, 64), (5, 896), (3, 5000)])
def test_rms_norm(rows, width, dtype):
    states, weight = random(2, rows, width, dtype=dtype), random(width, dtype=dtype)
    theirs = rms_norm(states.float(), (width,), weight.float(), 1e-6).to(dtype)
    assert_same(fused_ops.rms_norm(states, weight, 1e-6), theirs, [states, weight], dtype)


@PRECISIONS
def test_rms_norm_of_strided_rows_and_gradients(dtype):
    states, weight = random(9, 3, 16, dtype=dtype), random(16, dtype=dtype)
    ours = fused_ops.rms_norm(states[:, 1], weight, 1e-5)
    theirs = rms_norm(states[:, 1].float(), (16,), weight.float(), 1e-5).to(dtype)
    assert_same(
        ours.sum(0, keepdim=True).expand(4, -1), theirs.sum(0, keepdim=True).expand(4, -1), [states, weight], dtype
    )


@PRECISIONS
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 129), (2, 3, 1024)])
def test_swiglu(shape, dtype):
    gate, up = random(*shape, dtype=dtype), random(*shape, 1, dtype=dtype)[..., 0]
    theirs = (silu(gate.float()) * up.float()).to(dtype)
    assert_same(fused_ops.swiglu(gate, up), theirs, [gate, up], dtype)


@PRECISIONS
@pytest.mark.parametrize(("heads", "tokens", "size"), [(1, 1, 2), (3, 7, 16), (14, 30, 64), (2, 5, 24)])
@pytest.mark.parametrize("flat", [True, False], ids=["flat", "by_head"])
def test_rope(heads, tokens, size, flat, dtype):
    made = random(1, tokens, heads, size, dtype=dtype) if flat else random(1, heads, tokens, size, dtype=dtype)
    states = made.transpose(1, 2) if flat else made
    angles = random(1, tokens, size).detach()
    cosines, sines = angles.cos().to(dtype), angles.sin().to(dtype)
    first, second = states.float().chunk(2, -1)
    theirs = (states.float() * cosines.float() + torch.cat((-second, first), -1) * sines.float()).to(dtype)
    assert_same(fused_ops.rope(states, cosines, sines), theirs, [made], dtype)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # in a branch that is not taken
@PRECISIONS
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 2), (5, 300), (3, 20000)])
def test_log_softmax_gather(rows, vocabulary, dtype):
    logits = (4 * random(rows, vocabulary + 3, dtype=dtype).detach())[:, :vocabulary]
    logits[0, 1] = float("-inf")  # as a mask leaves it
    target = torch.arange(rows, device=DEVICE) % vocabulary
    target[0] = 0
    every = logits.float().log_softmax(-1)
    given = logits.clone()
    scores, tops, sums, spread = fused_ops.log_softmax_gather(given, target, entropy=True)
    torch.testing.assert_close(scores, every.gather(1, target[:, None]).squeeze(1), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(tops, logits.amax(-1).float())
    powers = (logits.float() - tops[:, None]).exp()
    torch.testing.assert_close(sums, powers.sum(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given, powers.to(dtype), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)
    expected = -(every.exp() * every).nan_to_num(0.0).sum(-1)
    torch.testing.assert_close(spread, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fused_ops.exp_rows(logits.clone(), tops), given, rtol=1e-5, atol=1e-6)
    assert fused_ops.log_softmax_gather(logits.clone(), target, entropy=False)[3] is None


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_patched_model_has_the_same_loss_and_gradients(family):
    model = tiny_model(family).to(DEVICE)
    ids = torch.randint(0, 250, (1, 40), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    found = []
    for used in (False, True):
        if used:
            patching.patch_model(model)
            kind = type(model).__name__.removesuffix("ForCausalLM")
            names = {type(module).__name__ for module in model.modules() if "forward" in module.__dict__}
            assert {f"{kind}RMSNorm", f"{kind}MLP", f"{kind}Attention"} <= names
        model.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        found.append([loss.detach(), *(part.grad.clone() for part in model.parameters() if part.grad is not None)])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-4, atol=2e-5)


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_autocast_with_kernels_is_as_close_to_fp32_as_without():
    model = tiny_model("llama").cuda()
    ids = torch.randint(0, 250, (1, 200), generator=torch.Generator().manual_seed(0)).cuda()
    found = []
    for half, used in ((False, False), (True, False), (True, True)):
        if used:
            patching.patch_model(model)
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = model(ids, labels=ids).loss
        loss.backward()
        found.append(torch.cat([part.grad.flatten() for part in model.parameters() if part.grad is not None]))
    exact, plain, ours = found
    assert (ours - exact).norm() < 1.5 * (plain - exact).norm()


@pytest.mark.parametrize("missing", ["No module named 'triton'", "no C compiler\nin two lines"])
def test_without_triton_a_warning_is_given_once_and_torch_is_used(missing, monkeypatch):
    def fails(*given, **named):
        raise ImportError(missing)

    monkeypatch.undo()
    monkeypatch.setattr(triton_ops, "launch_rms_norm", fails)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.zeros(shape))
    monkeypatch.setattr(triton_ops, "is_on_cuda", lambda states: True)
    triton_ops._triton_works.cache_clear()
    try:
        with pytest.warns(UserWarning, match=f"^{missing.splitlines()[0]}: the GPU computes without") as warned:
            assert not any(fused_ops.supports_fused_ops(torch.zeros(2)) for _ in range(2))
        assert len(warned) == 1
    finally:
        triton_ops._triton_works.cache_clear()


def test_disabled_kernels_leave_a_gpu_to_torch(monkeypatch):
    states = torch.zeros(2, device=DEVICE)
    assert fused_ops.supports_fused_ops(states)
    with kernels_disabled():
        assert not fused_ops.supports_fused_ops(states)
    monkeypatch.setenv("ZHENLONG_KERNELS", "0")
    assert not fused_ops.supports_fused_ops(states)
