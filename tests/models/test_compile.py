"""Compiled layers compute the same, under the same parameter names."""

import copy

import pytest
import torch
from tiny import tiny_model

from zhenlong.errors import UserError
from zhenlong.forest import forward, log_probs, make_tree, pack_trees
from zhenlong.models import compile_layers


def loss_and_gradients(model, pairs: int):
    forest = pack_trees([make_tree([1, 2, 3], [[4, 5, 6, 7], [8, 9]])] * pairs)
    loss = log_probs(model, forward(model, forest), forest).sum()
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_compiled_layers_give_the_same_loss_and_gradients_for_batches_of_any_size(family):
    model = tiny_model(family)
    plain = [loss_and_gradients(model, pairs) for pairs in (1, 3, 4)]
    compiled = copy.deepcopy(model)
    torch._dynamo.utils.counters.clear()
    compile_layers(compiled, backend="eager")
    assert compiled.state_dict().keys() == model.state_dict().keys()
    for pairs, (loss, gradients) in zip((1, 3, 4), plain, strict=True):
        ours, slopes = loss_and_gradients(compiled, pairs)
        torch.testing.assert_close(ours, loss)
        for name, gradient in gradients.items():
            torch.testing.assert_close(slopes[name], gradient, atol=1e-5, rtol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    again = loss_and_gradients(copy.deepcopy(compiled), 1)[0]  # as frozen_copy makes a reference
    torch.testing.assert_close(again, plain[0][0])


def test_a_model_without_known_layers_cannot_be_compiled():
    class Foreign(torch.nn.Module):
        pass

    with pytest.raises(UserError, match="compile: Foreign"):
        compile_layers(Foreign())
