"""The compiled decoder samples the same as layer-by-layer execution."""

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from zhenlong.kernels.build import kernels_disabled, load_library
from zhenlong.sampling import SamplingParams, TorchSampler
from zhenlong.sampling.fused_llama import FusedLlama

pytestmark = pytest.mark.skipif(load_library() is None, reason="no C compiler here")
PANELS = {"hidden_size": 64, "head_dim": 32, "intermediate_size": 96}
PROMPTS = [list(range(65, 65 + length)) for length in (3, 40, 17, 1)]


def sharp(family, **changes):
    """A model with peaked distributions and norms with random weights."""
    model = tiny_model(family, **PANELS | changes)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.mul_(3).add_(0.05 * noise)
    return model


@pytest.mark.parametrize(("family", "changes"), [
    ("llama", {}), ("llama", {"num_key_value_heads": 1}), ("llama", {"num_key_value_heads": 4}),
    ("qwen2", {}),  # biases of queries, keys and values
    ("mistral_window", {}),
])  # fmt: skip
@pytest.mark.parametrize("max_rows", [None, 7])
def test_samples_and_log_probabilities_equal_those_of_layer_by_layer_execution(family, changes, max_rows):
    model = sharp(family, **changes)
    assert FusedLlama(model).compiled_decoder is not None
    sampling = SamplingParams(max_tokens=70, seed=0, stop_token_ids=(70, 71, 72))
    ours = TorchSampler(model, tiny_tokenizer(), max_num_seqs=max_rows).sample(PROMPTS, sampling, 5)
    with kernels_disabled():
        assert FusedLlama(model).compiled_decoder is None
        theirs = TorchSampler(model, tiny_tokenizer(), max_num_seqs=max_rows).sample(PROMPTS, sampling, 5)
    pairs = [pair for both in zip(ours, theirs, strict=True) for pair in zip(*both, strict=True)]
    same = [(one, other) for one, other in pairs if one.token_ids == other.token_ids]
    assert len(same) >= len(pairs) - 1  # a uniform number may lie on the border of two ids
    assert len({one.token_ids for one, _ in pairs}) > 10
    for one, other in same:
        torch.testing.assert_close(torch.tensor(one.log_probs), torch.tensor(other.log_probs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "changes"), [
    ("llama", {"head_dim": 8}),  # head size is no multiple of any processor's panel width
    ("llama", {"intermediate_size": 72}),
    ("llama", {"attention_bias": True}),  # a bias in the output projection too
    ("llama", {"mlp_bias": True}),
    ("llama", {"hidden_act": "gelu"}),
    ("qwen3", {}),  # norms of queries and keys
])  # fmt: skip
def test_unsupported_layers_run_one_by_one(family, changes):
    assert FusedLlama(sharp(family, **changes)).compiled_decoder is None


def test_weights_of_large_models_are_not_copied(monkeypatch):
    monkeypatch.setattr("zhenlong.sampling.fused_llama.MAX_COMPILED_ELEMENTS", 1000)
    assert FusedLlama(sharp("llama")).compiled_decoder is None


def test_samples_do_not_depend_on_the_number_of_threads():
    model, sampling, before = sharp("llama"), SamplingParams(max_tokens=30, seed=0), torch.get_num_threads()
    alone = TorchSampler(model, tiny_tokenizer()).sample(PROMPTS, sampling, 3)
    torch.set_num_threads(2)
    try:
        together = TorchSampler(model, tiny_tokenizer()).sample(PROMPTS, sampling, 3)
    finally:
        torch.set_num_threads(before)
    assert [[one.token_ids for one in of] for of in alone] == [[one.token_ids for one in of] for of in together]
