"""The sparse last layer computes only needed outputs; values and all gradients equal those of the full layer."""

import copy
import functools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model

import zhenlong.forest.decoder as decoder
from zhenlong.forest import TreeNode, forward, layout_of, make_tree, pack_trees
from zhenlong.forest.attention_metadata import split_by_query
from zhenlong.forest.last_layer import last_layer_of
from zhenlong.models.load import _checkpoint_contexts

pytestmark = pytest.mark.usefixtures("kernels")

SPARSE_FAMILIES = ["llama", "qwen2", "qwen3", "mistral_window"]


def trees():
    """A pair with a long prompt, a response with a mask of gaps, a tree of depth two, and one without scored tokens."""
    inner = TreeNode(range(20, 23), True, (TreeNode(range(30, 34), [True, False, False, True]), TreeNode([5], True)))
    return [
        make_tree(range(40), [range(50, 55), range(60, 69)]),
        TreeNode(range(70, 90), [False] * 6 + [True] * 3 + [False] * 7 + [True] * 4),
        TreeNode(range(9), False, (inner, TreeNode([7, 8], False))),
        TreeNode(range(100, 112), False),
    ]


def outputs_and_gradients(model, output_positions, sparse, monkeypatch):
    """Needed states and every parameter's gradient, with a sparse or a full last layer."""
    if not sparse:
        monkeypatch.setattr(decoder, "_query_subset_for_last_layer", lambda *_: None)
    forest = pack_trees(trees())
    states = forward(model, forest, output_positions)
    monkeypatch.undo()
    model.zero_grad()
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    slopes = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
    return forest, states.detach(), slopes


@pytest.mark.parametrize("read", ["scored", "response_ends"])
@pytest.mark.parametrize("family", SPARSE_FAMILIES)
def test_states_and_gradients_equal_those_of_the_full_layer(family, read, monkeypatch):
    model = tiny_model(family)
    assert layout_of(model) == "forest"
    forest, ours, gradients = outputs_and_gradients(model, read, True, monkeypatch)
    whole, theirs, expected = outputs_and_gradients(model, read, False, monkeypatch)
    assert (
        forest.last_layer_tokens
        == len(set(forest.output_indices[read].tolist()))
        < whole.last_layer_tokens
        == len(forest.tokens)
    )
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("family", "given"), [("gpt2", {}), ("gemma2", {}), ("opt", {}), ("granite", {"residual_multiplier": 0.5})]
)
def test_unsupported_layers_compute_every_token(family, given):
    model = tiny_model(family, **given)
    assert layout_of(model) == "forest"
    forest = pack_trees(trees())
    forward(model, forest)
    assert forest.last_layer_tokens == len(forest.tokens)


def test_a_layer_with_an_extra_module_or_another_result_stays_full(monkeypatch):
    model = tiny_model("llama")
    layer = model.model.layers[-1]
    assert last_layer_of(model.model) is layer
    layer.extra = torch.nn.Dropout(0.5)
    assert last_layer_of(model.model) is None
    del layer.extra
    layer.self_attn.residual_dropout = 0.1
    assert last_layer_of(model.model) is None
    layer.self_attn.residual_dropout = 0.0
    own = type(layer).forward
    monkeypatch.setattr(type(layer), "forward", lambda self, states, **named: 1 + own(self, states, **named))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layout_of(model) == "forest"  # the layout does not change
    forest = pack_trees(trees())
    forward(model, forest)
    assert forest.last_layer_tokens == len(forest.tokens)
    assert "forward" not in layer.__dict__


def test_the_sliding_window_is_the_one_that_the_layer_passes_to_attention():
    model = tiny_model("mistral_window")
    forward(model, pack_trees(trees()))
    assert model.model.layers[-1].sparse_settings.attention.sliding_window == model.config.sliding_window


def test_the_full_layer_runs_where_nearly_all_or_no_outputs_are_needed():
    model = tiny_model("llama")
    text = pack_trees([TreeNode(range(30), [False] + [True] * 29)])
    forward(model, text)
    assert text.last_layer_tokens == 30
    silent = pack_trees([TreeNode(range(30))])
    assert forward(model, silent).shape == (0, model.config.hidden_size)
    assert forward(model, silent, None).shape == (30, model.config.hidden_size)


def test_attention_dropout_applies_in_training_only():
    model = tiny_model("llama")
    layout_of(model)
    attention = model.model.layers[-1].self_attn
    attention.attention_dropout = 0.5
    forest = pack_trees(trees())
    still = forward(model, forest)
    torch.testing.assert_close(forward(model, forest), still)
    model.train()
    assert not torch.allclose(forward(model, forest), still)


def test_gradient_checkpointing_and_copies_keep_the_sparse_layer(monkeypatch):
    model = tiny_model("llama")
    _, states, expected = outputs_and_gradients(model, "scored", True, monkeypatch)
    other = copy.deepcopy(model).train()
    same = {"use_reentrant": False, "context_fn": functools.partial(_checkpoint_contexts, other)}
    other.gradient_checkpointing_enable(same)
    forest, again, gradients = outputs_and_gradients(other, "scored", True, monkeypatch)
    assert forest.last_layer_tokens < len(forest.tokens)
    torch.testing.assert_close(again, states)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name)


def test_plain_calls_and_generation_are_unchanged():
    model, plain = tiny_model("llama"), tiny_model("llama")
    ids = torch.arange(12)[None]
    forward(model, pack_trees(trees()))
    torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=0, atol=0)


segments = st.lists(st.tuples(st.integers(1, 6), st.integers(-1, 8)), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(segments, st.data())
def test_query_parts_are_exactly_the_needed_tokens_and_attend_to_their_whole_path(given_segments, data):
    spans, start, tree_of = [], 0, []
    for length, wanted in given_segments:
        roots = [
            number for number in range(len(spans)) if tree_of[number] == max(tree_of)
        ]  # trees are stored one after another
        parent = roots[wanted % len(roots)] if wanted >= 0 and roots else -1
        tree_of.append(tree_of[parent] if parent >= 0 else max(tree_of, default=-1) + 1)
        spans.append((start, length, parent, start))
        start += length
    rows = np.asarray(sorted(data.draw(st.sets(st.integers(0, start - 1), min_size=1))))

    def paths(some):
        """The packed tokens that each query attends to."""
        seen, before = {}, []
        for first, length, parent, row in some:
            above = before[parent] if parent >= 0 else []
            for place in range(length):
                if row >= 0:
                    seen[row + place] = [*above, *range(first, first + place + 1)]
            before.append([*above, *range(first, first + length)])
        return seen

    whole, parts = paths(spans), paths(split_by_query(spans, rows))
    assert parts == {place: whole[row] for place, row in enumerate(rows.tolist())}
