"""The forest equals the plain forward pass in values and gradients, for any trees and all tested architectures."""

import random
import warnings

import pytest
import torch
from tiny import FAMILIES, tiny_model

from zhenlong.forest import TreeNode, forward, layout_of, log_probs, make_tree, microbatch_indices, pack_trees
from zhenlong.forest.attention import UnsupportedAttention, forest_attention, read_attention_settings
from zhenlong.forest.decoder import _padded_forward
from zhenlong.kernels.attention import AttentionSettings

pytestmark = pytest.mark.usefixtures("kernels")

TRAINABLE = [family for family in FAMILIES if family != "bloom"]


def random_ids(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed * 1000 + length).choices(range(256), k=length)


def mixed_trees() -> list[TreeNode]:
    """A pair, a ranking with a one-token response, a conversation with a mask, and a tree of depth two."""
    inner = TreeNode(random_ids(3, 5), True, (TreeNode(random_ids(4, 6), True), TreeNode(random_ids(1, 7), True)))
    return [
        make_tree(random_ids(6), [random_ids(5, 1), random_ids(9, 2)]),
        make_tree(random_ids(1), [random_ids(1, 1), random_ids(2, 2), random_ids(7, 3)]),
        TreeNode(random_ids(12, 4), [False] * 3 + [True] * 4 + [False] * 2 + [True] * 3),
        TreeNode(random_ids(5, 8), False, (inner, TreeNode(random_ids(2, 9), True))),
    ]


def plain_log_probs(model, root: TreeNode) -> list[torch.Tensor]:
    """Scored log-probabilities of each response, one sequence at a time through the model's own forward pass."""
    found = []

    def visit(node: TreeNode, before: list[int]) -> None:
        row = before + list(node.tokens)
        logits = model(torch.tensor([row])).logits[0].log_softmax(-1)
        mask = [node.scored] * len(node.tokens) if isinstance(node.scored, bool) else node.scored
        places = [len(before) + i for i, scored in enumerate(mask) if scored]
        if places:
            found.append(torch.stack([logits[p - 1, row[p]] for p in places]))
        for child in node.children:
            visit(child, row)

    visit(root, [])
    return found


def gradients_of(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def weighted_loss(values: torch.Tensor) -> torch.Tensor:
    """A loss that weights every scored token differently, to detect a wrong order."""
    return (values * torch.linspace(0.5, 1.5, len(values))).sum()


@pytest.mark.parametrize("family", TRAINABLE)
def test_forest_equals_single_sequences_in_values_and_gradients(family):
    model = tiny_model(family)
    assert layout_of(model) == "forest"
    forest = pack_trees(mixed_trees())
    ours = log_probs(model, forward(model, forest), forest)
    plain = torch.cat([values for root in mixed_trees() for values in plain_log_probs(model, root)])
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-5)
    ours_gradient, plain_gradient = gradients_of(model, weighted_loss(ours)), gradients_of(model, weighted_loss(plain))
    assert ours_gradient.keys() == plain_gradient.keys()
    for name, gradient in plain_gradient.items():
        torch.testing.assert_close(ours_gradient[name], gradient, atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma2", "opt"])
def test_padded_layout_equals_forest_in_values_and_gradients(family):
    model = tiny_model(family)
    forest = pack_trees(mixed_trees())
    ours = log_probs(model, forward(model, forest), forest)
    padded = log_probs(model, _padded_forward(model, forest)[forest.source], forest)
    torch.testing.assert_close(ours, padded, atol=2e-5, rtol=1e-5)
    ours_gradient, padded_gradient = (
        gradients_of(model, weighted_loss(ours)),
        gradients_of(model, weighted_loss(padded)),
    )
    for name, gradient in padded_gradient.items():
        torch.testing.assert_close(ours_gradient[name], gradient, atol=2e-4, rtol=1e-3, msg=name)


def test_an_unsupported_architecture_uses_the_padded_layout_with_a_warning():
    model = tiny_model("bloom")
    with pytest.warns(UserWarning, match="padded layout"):
        assert layout_of(model) == "padded"
    forest = pack_trees(mixed_trees())
    plain = torch.cat([values for root in mixed_trees() for values in plain_log_probs(model, root)])
    torch.testing.assert_close(log_probs(model, forward(model, forest), forest), plain, atol=2e-5, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout_of(model)


def test_attention_refuses_unknown_keywords():
    states = torch.zeros(1, 2, 3, 4)
    forest = pack_trees([TreeNode([1, 2, 3], [False, True, True])])
    forest_attention(torch.nn.Identity(), states, states, states, None, forest=forest, use_cache=False)
    with pytest.raises(UnsupportedAttention, match="s_aux"):
        forest_attention(torch.nn.Identity(), states, states, states, None, forest=forest, s_aux=torch.zeros(2))


def test_attention_settings_are_read_and_everything_else_is_harmless_or_refused():
    given = {"scaling": 0.5, "sliding_window": 3, "softcap": 30.0, "dropout": 0.1}
    assert read_attention_settings(None, given | {"use_cache": False, "s_aux": None}) == AttentionSettings(**given)
    with pytest.raises(UnsupportedAttention, match="chunk, s_aux"):
        read_attention_settings(None, given | {"s_aux": 1.0, "chunk": 8})
    with pytest.raises(UnsupportedAttention, match="a mask of its own"):
        read_attention_settings(torch.zeros(1), given)


def test_sequences_longer_than_a_length_bucket_and_than_the_window():
    model = tiny_model("mistral_window")
    trees = [
        make_tree(random_ids(90), [random_ids(70, 1), random_ids(3, 2)]),
        TreeNode(random_ids(150, 3), [False] + [True] * 149),
        TreeNode(random_ids(2), [False, True]),
    ]
    forest = pack_trees(trees)
    assert len(forest.attention_metadata.block_layout(7).blocks) > 2
    plain = torch.cat([values for root in trees for values in plain_log_probs(model, root)])
    torch.testing.assert_close(log_probs(model, forward(model, forest), forest), plain, atol=3e-5, rtol=1e-5)


def test_a_tree_s_values_do_not_depend_on_the_rest_of_the_batch():
    model = tiny_model("llama")
    alone = pack_trees(mixed_trees()[:1])
    together = pack_trees(mixed_trees())
    ours = log_probs(model, forward(model, together), together)[: len(alone.target)]
    torch.testing.assert_close(ours, log_probs(model, forward(model, alone), alone), atol=1e-6, rtol=1e-6)


def test_a_model_keeps_its_own_attention_between_calls():
    model = tiny_model("llama")
    before = model.config._attn_implementation
    forward(model, pack_trees(mixed_trees()))
    assert model.config._attn_implementation == before
    assert torch.isfinite(model(torch.tensor([random_ids(4)])).logits).all()


def test_packing_numbers_responses_depth_first_and_continues_positions():
    forest = pack_trees(mixed_trees())
    assert forest.response_tree.tolist() == [0, 0, 1, 1, 1, 2, 3, 3, 3, 3]
    assert forest.tokens[forest.response_end].tolist()[:2] == [random_ids(5, 1)[-1], random_ids(9, 2)[-1]]
    assert torch.bincount(forest.response_index).tolist() == [5, 9, 1, 2, 7, 7, 3, 4, 1, 2]
    first = forest.segments[1]
    assert forest.positions[first.start : first.start + first.length].tolist() == [6, 7, 8, 9, 10]
    assert int(forest.source[0]) == 5


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (TreeNode([], True), "no tokens"),
        (TreeNode([1, 2], [True]), "a mask of 1"),
        (TreeNode([1, 2], True), "no token precedes it"),
    ],
)
def test_invalid_trees_are_refused(bad, match):
    with pytest.raises(ValueError, match=match):
        pack_trees([bad])


def test_micro_batches_contain_each_tree_once_within_the_budget():
    sizes = [random.Random(1).randint(1, 60) for _ in range(200)] + [500]
    groups = microbatch_indices(sizes, 128)
    assert sorted(index for group in groups for index in group) == list(range(201))
    assert all(sum(sizes[i] for i in group) <= 128 or len(group) == 1 for group in groups)


def test_splitting_into_micro_batches_does_not_change_the_gradient():
    model, trees = tiny_model("llama"), mixed_trees()

    def total(groups: list[list[int]]) -> dict[str, torch.Tensor]:
        model.zero_grad()
        for group in groups:
            forest = pack_trees([trees[i] for i in group])
            (-log_probs(model, forward(model, forest), forest).sum() / 41).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    whole, cut = total([[0, 1, 2, 3]]), total(microbatch_indices([node.num_tokens for node in trees], 16))
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
