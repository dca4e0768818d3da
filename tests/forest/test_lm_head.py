"""The chunked output head equals log-softmax over all logits, for any chunk size."""

from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model

from zhenlong.errors import UserError
from zhenlong.forest import forward, lm_head, log_probs, make_tree, pack_trees

TREES = [make_tree([1, 2, 3], [[4, 5, 6, 7], [8, 9]]), make_tree([5], [[6, 7, 8]])]


def reference(model, hidden, forest, temperature):
    logits = model.lm_head(hidden).float()
    if model.config.model_type == "gemma2":
        cap = model.config.final_logit_softcapping
        logits = cap * torch.tanh(logits / cap)
    if model.config.model_type == "granite":
        logits = logits / model.config.logits_scaling
    rows = (logits / temperature).log_softmax(-1)
    return rows.gather(1, forest.target[:, None]).squeeze(1), -(rows.exp() * rows).sum(-1)


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "gpt2"])
@pytest.mark.parametrize(("chunk", "kept"), [(1 << 22, 1 << 24), (600, 1 << 24), (600, 1500), (600, 0)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_entropies_and_gradients_equal_the_plain_head(family, chunk, kept, temperature, monkeypatch):
    monkeypatch.setitem(lm_head.LOGITS_PER_CHUNK, "cpu", chunk)
    monkeypatch.setattr(lm_head, "MIN_CHUNK_ROWS", 1)
    monkeypatch.setattr(lm_head, "PREFERRED_CHUNK", (1, 1))
    monkeypatch.setattr(lm_head, "MAX_CACHED_LOGITS", kept)
    model = tiny_model(family)
    forest = pack_trees(TREES)
    hidden = forward(model, forest).detach().requires_grad_()
    weights = torch.linspace(-1, 1, len(forest.target))
    results = []
    for function in (lambda: log_probs(model, hidden, forest, temperature, return_entropy=True),
                     lambda: reference(model, hidden, forest, temperature)):  # fmt: skip
        values, entropy = function()
        weight = model.get_output_embeddings().weight
        slopes = torch.autograd.grad((values * weights).sum(), [hidden, weight])
        results.append((values, entropy.detach(), *slopes))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("room", "chunks"), [(0, []), (59, [20, 20]), (60, [20, 20, 20]), (99, [20, 20, 20, 10])])
def test_the_first_chunks_are_cached_for_the_backward_pass_within_the_budget(room, chunks, monkeypatch):
    monkeypatch.setitem(lm_head.LOGITS_PER_CHUNK, "cpu", 20)
    monkeypatch.setattr(lm_head, "MIN_CHUNK_ROWS", 1)
    monkeypatch.setattr(lm_head, "PREFERRED_CHUNK", (1, 1))
    monkeypatch.setattr(lm_head, "MAX_CACHED_LOGITS", room)
    states, weight = torch.randn(7, 4, requires_grad=True), torch.randn(10, 4, requires_grad=True)
    kept = []

    def noted(tensor):
        if tensor.dim() == 2 and tensor.shape[1] == 10:
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
        lm_head._LogProbs.apply(states, weight, None, torch.arange(7), lm_head.LogitSettings(), False)
    assert kept == chunks


def test_the_bias_of_the_head_gets_a_gradient():
    model = tiny_model("llama")
    model.lm_head.bias = torch.nn.Parameter(torch.randn(259))
    forest = pack_trees(TREES)
    log_probs(model, forward(model, forest), forest).sum().backward()
    # The gradients of one prediction's log-probability sum to zero over the vocabulary.
    assert model.lm_head.bias.grad.sum().abs() < 1e-4
    assert model.lm_head.bias.grad.abs().sum() > 1


def test_half_precision_gradients_of_the_head_are_summed_in_fp32():
    model = tiny_model("llama")
    forest = pack_trees(TREES * 40)
    hidden = forward(model, forest).detach()
    weight = model.lm_head.weight
    plain = torch.autograd.grad(log_probs(model, hidden, forest).sum(), weight)[0]
    with torch.autocast("cpu", torch.bfloat16):
        cast = torch.autograd.grad(log_probs(model, hidden, forest).sum(), weight)[0]
    assert cast.dtype == weight.dtype
    assert (cast - plain).norm() / plain.norm() < 0.02


@pytest.mark.parametrize("kept", [1 << 24, 0])
def test_the_gradient_of_a_nearly_certain_token_is_as_small_in_half_precision_as_in_fp32(kept, monkeypatch):
    monkeypatch.setattr(lm_head, "MAX_CACHED_LOGITS", kept)
    states = torch.tensor([[8.0, 0.0, 0.0, 0.0]])
    weight = torch.zeros(40, 4)
    weight[0, 0] = 1.0  # the target's logit is 8, all others are 0: 1 - p is 39 exp(-8)
    slopes = []
    for dtype in (torch.float32, torch.bfloat16):
        half, layer = (part.to(dtype).clone().requires_grad_() for part in (states, weight))
        scored, _ = lm_head._LogProbs.apply(half, layer, None, torch.tensor([0]), lm_head.LogitSettings(), False)
        scored.sum().backward()
        slopes.append((half.grad.float(), layer.grad.float()))
    for full, rounded in zip(*slopes, strict=True):
        torch.testing.assert_close(rounded, full, atol=0, rtol=0.01)


def test_a_head_that_is_not_a_plain_linear_layer_is_refused():
    model = tiny_model("llama")
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(UserError, match="output layer"):
        lm_head.lm_head_of(model)


def test_the_number_of_cached_logits_on_a_gpu_depends_on_its_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=64 << 30))
    assert lm_head._max_cached_logits(torch.device("cuda")) == 2 << 30
    assert lm_head._max_cached_logits(torch.device("cpu")) == lm_head.MAX_CACHED_LOGITS
