"""Prompts prefilled in one step attend as each prompt alone does."""

import pytest
from reference_attention import reference_varlen_attn
from test_sampler import PROMPTS, sharp_model
from tiny import tiny_tokenizer

import zhenlong.forest.attention as forest_attention
import zhenlong.sampling.attention as attention
from zhenlong.sampling import SamplingParams, TorchSampler

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.mark.parametrize("family", ["llama", "mistral_window"])
@pytest.mark.parametrize("beginning", [0, 20])
def test_prompts_prefilled_together_equal_prompts_prefilled_alone(family, beginning, monkeypatch):
    sampler = TorchSampler(sharp_model(family), tiny_tokenizer(), max_num_seqs=4)
    prompts = [list(range(100, 100 + beginning)) + prompt for prompt in PROMPTS]
    sampling = SamplingParams(max_tokens=9, ignore_eos=True)
    alone = sampler.sample(prompts, sampling, samples_per_prompt=2)
    monkeypatch.setattr(attention, "supports_varlen", lambda *_: True)
    monkeypatch.setattr(forest_attention, "varlen_attn", reference_varlen_attn)
    assert [[c.token_ids for c in cs] for cs in sampler.sample(prompts, sampling, samples_per_prompt=2)] == [
        [c.token_ids for c in cs] for cs in alone
    ]
