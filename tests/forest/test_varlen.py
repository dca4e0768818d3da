"""Variable-length attention equals dense blocks; without a CUDA device a plain implementation replaces the kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_attention import reference_varlen_attn

import zhenlong.forest.attention as attention
from zhenlong.forest import TreeNode, pack_trees
from zhenlong.kernels.attention import AttentionSettings

pytestmark = pytest.mark.usefixtures("kernels")

HEADS, KEY_HEADS, SIZE = 4, 2, 8
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def node(length, children=()):
    return TreeNode([1] * length, False, tuple(children))


trees = st.recursive(
    st.integers(1, 9).map(node),
    lambda inner: st.builds(node, st.integers(1, 9), st.lists(inner, max_size=3)),
    max_leaves=5,
)


def attention_and_gradients(forest, window, device, dtype, varlen):
    """Output and gradients of attention on random states."""
    generator = torch.Generator().manual_seed(len(forest.tokens))
    states = [
        torch.randn(1, heads, len(forest.tokens), SIZE, generator=generator).to(device, dtype).requires_grad_()
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]
    before = attention.supports_varlen
    attention.supports_varlen = lambda *_: varlen
    try:
        out, _ = attention.forest_attention(
            torch.nn.Identity(), *states, None, forest=forest, scaling=0.3, sliding_window=window
        )
    finally:
        attention.supports_varlen = before
    (out.float() * torch.linspace(-1, 1, out.numel(), device=device).view_as(out)).sum().backward()
    return [out.float().cpu(), *(part.grad.float().cpu() for part in states)]


@settings(max_examples=60, deadline=None)
@given(st.lists(trees, min_size=1, max_size=4), st.sampled_from([None, 1, 5]))
def test_paths_as_sequences_equal_dense_blocks(roots, window):
    forest = pack_trees(roots)
    kernel, attention.varlen_attn = attention.varlen_attn, reference_varlen_attn
    try:
        ours = attention_and_gradients(forest, window, "cpu", torch.float64, varlen=True)
    finally:
        attention.varlen_attn = kernel
    for mine, blocks in zip(
        ours, attention_and_gradients(forest, window, "cpu", torch.float64, varlen=False), strict=True
    ):
        torch.testing.assert_close(mine, blocks, atol=1e-6, rtol=1e-6)


def test_dense_blocks_are_used_where_the_kernel_is_unsupported():
    states = torch.zeros(1, 2, 3, SIZE)
    assert not attention.supports_varlen(states, states, AttentionSettings())  # not on CUDA


@needs_cuda
@pytest.mark.parametrize("window", [None, 3, 40])
def test_the_kernel_agrees_with_dense_blocks_in_fp32(window):
    leaves = [node(length) for length in (70, 1, 33)]
    forest = pack_trees([node(90, leaves), node(150), node(5, [node(3, leaves), node(2)])], "cuda")
    ours = attention_and_gradients(forest, window, "cuda", torch.bfloat16, varlen=True)
    for mine, blocks in zip(
        ours, attention_and_gradients(forest, window, "cuda", torch.float32, varlen=False), strict=True
    ):
        assert (mine - blocks).norm() / blocks.norm() < 1e-2


@needs_cuda
def test_half_precision_on_cuda_uses_the_varlen_kernel_where_supported():
    states = torch.zeros(1, 2, 3, SIZE, device="cuda", dtype=torch.bfloat16)
    assert attention.supports_varlen(states, states, AttentionSettings())
    assert not attention.supports_varlen(states, states, AttentionSettings(dropout=0.1))
    assert not attention.supports_varlen(states, states, AttentionSettings(softcap=30.0))
    assert not attention.supports_varlen(states.float(), states.float(), AttentionSettings())
    with torch.autocast("cuda", torch.bfloat16):
        assert attention.supports_varlen(states.float(), states.float(), AttentionSettings())
