"""The kernel's log-softmax of the LM head equals torch's, in fp32 and bf16, for any vocabulary size."""

import pytest
import torch

from zhenlong.kernels import fused_ops
from zhenlong.kernels.build import load_library

pytestmark = pytest.mark.skipif(load_library() is None, reason="no C compiler here")


def logits_of(rows, vocabulary, dtype, scale=3.0):
    generator = torch.Generator().manual_seed(vocabulary)
    return (scale * torch.randn(rows, vocabulary, generator=generator)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [1, 2, 15, 16, 17, 259, 1024, 1025, 5000])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_log_probs_exponentials_sums_and_entropies_equal_torch_s(rows, vocabulary, dtype):
    logits = logits_of(rows, vocabulary, dtype)
    target = torch.arange(rows) * 7 % vocabulary
    truth = logits.double().log_softmax(-1)
    given = logits.clone()
    log_probs, max_logits, exp_sums, entropies = fused_ops.log_softmax_gather(given, target, entropy=True)
    torch.testing.assert_close(log_probs.double(), truth.gather(1, target[:, None]).squeeze(1), atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(entropies.double(), -(truth.exp() * truth).sum(-1), atol=1e-5, rtol=1e-5)
    assert torch.equal(max_logits, logits.float().amax(-1))
    exponentials = (logits.double() - max_logits.double()[:, None]).exp()
    torch.testing.assert_close(exp_sums.double(), exponentials.sum(-1), atol=0, rtol=1e-6)
    rounding = 2**-8 if dtype == torch.bfloat16 else 3e-6  # of exponents down to -20
    torch.testing.assert_close(given.double(), exponentials, atol=1e-30, rtol=rounding)
    assert torch.equal(fused_ops.exp_rows(logits.clone(), max_logits), given)
    alone = fused_ops.log_softmax_gather(logits.clone(), target, entropy=False)
    assert torch.equal(alone[0], log_probs)
    assert alone[3] is None


def test_strided_rows_leave_the_memory_between_them_unchanged():
    wide = logits_of(6, 60, torch.float32)
    given, target = wide.clone(), torch.arange(6)
    scored, *_ = fused_ops.log_softmax_gather(given[:, 10:47], target, entropy=False)
    torch.testing.assert_close(scored, wide[:, 10:47].log_softmax(-1).gather(1, target[:, None]).squeeze(1))
    assert torch.equal(given[:, :10], wide[:, :10])
    assert torch.equal(given[:, 47:], wide[:, 47:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinite_logits_propagate_and_masked_tokens_do_not_contribute(dtype):
    logits = logits_of(4, 100, dtype)
    logits[0, 17] = float("nan")
    logits[1, 17] = float("inf")
    logits[2, :50] = float("-inf")
    target = torch.tensor([3, 3, 70, 3])
    scored, _, _, spread = fused_ops.log_softmax_gather(logits.clone(), target, entropy=True)
    assert not scored[:2].isfinite().any()
    truth = logits[2:].double().log_softmax(-1)
    torch.testing.assert_close(scored[2:].double(), truth[[0, 1], [70, 3]], atol=1e-5, rtol=1e-6)
    assert spread[2:].isfinite().all()


def test_unsupported_dtypes_are_left_to_torch():
    assert not fused_ops.supports_softmax(torch.zeros(2, 3, dtype=torch.float64))
    assert not fused_ops.supports_softmax(torch.zeros(2, 3, dtype=torch.float16))
    assert not fused_ops.supports_softmax(torch.zeros(3, 2).t())
    assert fused_ops.supports_softmax(torch.zeros(2, 3))
