"""The compiled attention kernels equal PyTorch's operations, forward and backward, with any number of threads."""

import numpy as np
import pytest
import torch

from zhenlong.forest import TreeNode, pack_trees
from zhenlong.forest.attention import forest_attention
from zhenlong.kernels import attention, decoding, onednn_linear
from zhenlong.kernels.attention import AttentionSettings
from zhenlong.kernels.build import kernels_disabled, load_library

pytestmark = pytest.mark.skipif(load_library() is None, reason="no C compiler here")


def random_tree(generator, depth=0):
    """A tree of up to three levels, with nodes shorter and longer than the kernel's tiles and panels."""
    length = int(generator.choice([1, 2, 7, 31, 32, 33, 64, 70]))
    children = () if depth == 2 else tuple(random_tree(generator, depth + 1) for _ in range(generator.integers(0, 4)))
    return TreeNode([1] * length, False, children)


def attended(forest, q, k, v, **how):
    """The output [N, H, D] and the gradients of q, k and v for a fixed output gradient."""
    states = [part.detach().requires_grad_() for part in (q, k, v)]
    out = forest_attention(None, *(part.transpose(0, 1)[None] for part in states), None, forest=forest, **how)[0][0]
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out, *torch.autograd.grad((out * weights).sum(), states)]


def states_of(forest, heads, key_heads, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((heads, size), (key_heads, size), (key_heads, size))
    return [torch.randn(len(forest.tokens), *shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("heads", "key_heads", "size", "window", "scaling"),
    [(2, 2, 32, None, None), (4, 2, 20, None, 0.3), (6, 1, 8, 1, None), (2, 2, 64, 9, None), (2, 1, 40, 50, None)],
)
def test_attention_equals_that_of_dense_blocks(seed, heads, key_heads, size, window, scaling):
    generator = np.random.default_rng(seed)
    forest = pack_trees([random_tree(generator) for _ in range(3)])
    states = states_of(forest, heads, key_heads, size)
    assert attention.supports_attention(states[0], states[2], AttentionSettings())
    ours = attended(forest, *states, sliding_window=window, scaling=scaling)
    with kernels_disabled():
        theirs = attended(forest, *states, sliding_window=window, scaling=scaling)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_extreme_scores_stay_finite():
    forest = pack_trees([TreeNode([1] * 40, False, (TreeNode([1] * 3), TreeNode([1] * 50)))])
    states = [30 * part for part in states_of(forest, 2, 2, 32)]  # scores of thousands
    ours = attended(forest, *states)
    with kernels_disabled():
        theirs = attended(forest, *states)
    for one, other in zip(ours, theirs, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-2)  # a score is rounded to 5e-4


def test_a_nan_key_reaches_exactly_the_queries_that_attend_to_it():
    forest = pack_trees([TreeNode([1] * 40)])
    q, k, v = states_of(forest, 2, 2, 32)
    k[5, 0, 3] = float("nan")
    out = attended(forest, q, k, v)[0]
    assert out[:5].isfinite().all()
    assert out[5:, 0].isnan().all()
    assert out[:, 1].isfinite().all()


def test_strides_do_not_change_the_result():
    forest = pack_trees([random_tree(np.random.default_rng(0))])
    q, k, v = states_of(forest, 2, 2, 32)
    as_heads_first = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in (q, k, v)]
    as_dimensions_first = [part.permute(2, 0, 1).contiguous().permute(1, 2, 0) for part in (q, k, v)]
    expected = attended(forest, q, k, v)
    for others in (as_heads_first, as_dimensions_first):
        assert all(torch.equal(*pair) for pair in zip(attended(forest, *others), expected, strict=True))


def test_results_are_bitwise_equal_for_any_number_of_threads():
    forest = pack_trees([random_tree(np.random.default_rng(seed)) for seed in range(5)])
    states = states_of(forest, 4, 2, 32)
    alone = attended(forest, *states)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = attended(forest, *states)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(alone, together, strict=True))


@pytest.mark.parametrize("given", [
    {"dropout": 0.1}, {"softcap": 5.0}, {"dtype": torch.float64}, {"dtype": torch.bfloat16}, {"narrow": True},
])  # fmt: skip
def test_unsupported_inputs_are_left_to_torch(given, monkeypatch):
    monkeypatch.setattr(onednn_linear, "BF16_MATMUL_SUPPORTED", False)
    q = v = torch.zeros(3, 2, 8, dtype=given.get("dtype", torch.float32))
    v = v[..., :4] if given.get("narrow") else v
    assert not attention.supports_attention(
        q, v, AttentionSettings(dropout=given.get("dropout", 0.0), softcap=given.get("softcap"))
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert not attention.supports_attention(torch.zeros(3, 2, 8), torch.zeros(3, 2, 8), AttentionSettings())


def plain_decoding(q, k, v, own, shared, prompts, lengths, entered, column, scaling, window):
    """One sequence at a time: its prompt's keys, then its own columns, including the new one."""
    out = torch.empty_like(q)
    for row, prompt in enumerate(prompts):
        own[0][row, :, column], own[1][row, :, column] = k[row], v[row]
        parts = [
            torch.cat((both[0][prompt, :, : lengths[row]], both[1][row, :, entered[row] : column + 1]), 1)
            for both in zip(shared, own, strict=True)
        ]
        if window:
            parts = [part[:, -window:] for part in parts]
        keys, values = (part.repeat_interleave(q.shape[1] // k.shape[1], 0) for part in parts)  # [H, K, D]
        weights = (torch.einsum("hd,hkd->hk", q[row], keys) * scaling).softmax(-1)
        out[row] = torch.einsum("hk,hkd->hd", weights, values)
    return out


@pytest.mark.parametrize("window", [None, 1, 6, 40])
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(2, 2, 32), (6, 2, 64), (8, 1, 96)])
@pytest.mark.parametrize("rows", [[1], [8, 8], [1, 5, 0, 2]])
def test_a_decoding_step_attends_to_the_prompt_and_the_sequence_s_own_columns(window, heads, key_heads, size, rows):
    generator = torch.Generator().manual_seed(0)
    by_prompt = [prompt for prompt, several in enumerate(rows) for _ in range(several)]
    order = torch.randperm(len(by_prompt), generator=generator).tolist()
    prompts = [by_prompt[place] for place in order]
    lengths_of = [3, 32, 1, 45][: len(rows)]
    column, positions = 37, 50
    entered = torch.tensor([(0, 36, 37, 20)[row % 4] for row in range(len(prompts))])
    lengths = torch.tensor([lengths_of[prompt] for prompt in prompts])
    random = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    q, k, v = (random(len(prompts), several, size) for several in (heads, key_heads, key_heads))
    own = [random(len(prompts), key_heads, positions, size) for _ in range(2)]
    shared = [random(len(rows), key_heads, 45, size) for _ in range(2)]
    expected_own = [part.clone() for part in own]
    expected = plain_decoding(q, k, v, expected_own, shared, prompts, lengths, entered, column, 0.2, window)
    places = [[row for row, of in enumerate(prompts) if of == prompt] for prompt in range(len(rows))]
    sorted_rows = (np.concatenate(places).astype(np.int64), np.cumsum([0, *map(len, places)]).astype(np.int64))
    assert decoding.supports_decoding(q, v, AttentionSettings())
    step = decoding.DecodeStep(*sorted_rows, prompt_lengths=lengths, start_columns=entered, column=column)
    settings = AttentionSettings(scaling=0.2, sliding_window=window)
    found = decoding.decoding_attention(q, k, v, response_kv=own, prompt_kv=shared, step=step, settings=settings)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(*pair) for pair in zip(own, expected_own, strict=True))
