"""Fused layers are used exactly where they reproduce the model."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_sampler import PROMPTS, deviation, sharp_model
from tiny import tiny_tokenizer

from zhenlong.sampling import SamplingParams, TorchSampler
from zhenlong.sampling.engines import flat_engine, fused_engine
from zhenlong.sampling.fused_llama import can_fuse

pytestmark = pytest.mark.usefixtures("kernels")

SAMPLING = SamplingParams(max_tokens=12, ignore_eos=True)


def engine_of(model):
    return TorchSampler(model, tiny_tokenizer(), max_num_seqs=4)._make_engine


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral_window"])
def test_llama_like_models_are_fused_and_sample_the_same_as_the_flat_engine(family):
    model = sharp_model(family)
    sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=4)
    assert sampler._make_engine is fused_engine
    fused = sampler.sample(PROMPTS, SAMPLING, samples_per_prompt=2)
    sampler._make_engine = flat_engine
    assert [[c.token_ids for c in cs] for cs in sampler.sample(PROMPTS, SAMPLING, samples_per_prompt=2)] == [
        [c.token_ids for c in cs] for cs in fused
    ]


ROTATIONS = {
    "linear": {"factor": 2.0},
    "llama3": {
        "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "dynamic": {"factor": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("kind", ROTATIONS)
def test_rotary_positions_equal_the_model_s_even_beyond_the_original_context(kind):
    short = 64 if kind == "dynamic" else 512  # dynamic rotary angles change once a pass exceeds it
    rotation = {"rope_type": kind, "rope_theta": 10000.0, **ROTATIONS[kind]}
    model = sharp_model("llama", rope_parameters=rotation, max_position_embeddings=short)
    sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=4)
    sampler.context_length = 512
    fused, flat = [], []
    for engine, found in ((fused_engine, fused), (flat_engine, flat)):
        sampler._make_engine = engine
        for completions in sampler.sample(
            PROMPTS, SamplingParams(max_tokens=80, ignore_eos=True), samples_per_prompt=2
        ):
            found += [completion.token_ids for completion in completions]
    assert fused == flat


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gpt2", "phi3", "opt"])
def test_other_architectures_use_their_own_forward_pass(family):
    assert engine_of(sharp_model(family)) is flat_engine


def test_fused_layers_with_other_results_are_rejected(monkeypatch):
    import zhenlong.sampling.fused_llama as fused

    added = fused._add_residual
    monkeypatch.setattr(fused, "_add_residual", lambda hidden, rows, layer: added(hidden, 1.1 * rows, layer))
    assert engine_of(sharp_model("llama")) is flat_engine


def test_an_adapter_added_later_affects_sampling():
    model = sharp_model("llama")
    sampler = TorchSampler(model, tiny_tokenizer())
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    assert not can_fuse(model)
    [[completion]] = sampler.sample([PROMPTS[0]], SAMPLING)
    assert deviation(adapted, PROMPTS[0], completion) < 1e-4


def test_a_forward_hook_affects_sampling():
    model = sharp_model("llama")
    sampler = TorchSampler(model, tiny_tokenizer())
    handle = model.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: 0.5 * output)
    with torch.no_grad():
        [[completion]] = sampler.sample([PROMPTS[0]], SAMPLING)
    assert deviation(model, PROMPTS[0], completion) < 1e-4
    handle.remove()


def test_a_wrapped_model_uses_its_own_forward_pass():
    adapted = get_peft_model(sharp_model("llama"), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    assert engine_of(adapted) is flat_engine
