"""Prompts that enter in one step attend as each alone does."""

import pytest
from plain_attention import plain_kernel
from test_sampler import PROMPTS, sharp_model
from tiny import tiny_tokenizer

import zhenlong.forest.packed as packed
import zhenlong.sampling.attention as attention
from zhenlong.sampling import Sampling, TorchSampler

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.mark.parametrize("family", ["llama", "mistral_window"])
@pytest.mark.parametrize("beginning", [0, 20])
def test_prompts_that_enter_together_are_computed_as_each_alone(family, beginning, monkeypatch):
    sampler = TorchSampler(sharp_model(family), tiny_tokenizer(), max_rows=4)
    prompts = [list(range(100, 100 + beginning)) + prompt for prompt in PROMPTS]
    sampling = Sampling(max_tokens=9, ignore_eos=True)
    alone = sampler.sample(prompts, sampling, n=2)
    monkeypatch.setattr(attention, "can_pack", lambda *_: True)
    monkeypatch.setattr(packed, "varlen_attn", plain_kernel)
    assert [[c.ids for c in cs] for cs in sampler.sample(prompts, sampling, n=2)] == [
        [c.ids for c in cs] for cs in alone
    ]
