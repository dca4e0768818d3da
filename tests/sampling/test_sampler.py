"""The sampler: log-probabilities of the plain model, independence of the schedule, stopping, and no side effects."""

import copy
import warnings

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from zhenlong.errors import UserError
from zhenlong.forest.attention import UnsupportedAttention
from zhenlong.sampling import Completion, SamplingParams, TorchSampler
from zhenlong.sampling.attention import sampling_attention
from zhenlong.sampling.engines import HFCacheEngine, flat_engine

pytestmark = pytest.mark.usefixtures("kernels")

FAMILIES = ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2", "mistral_window", "opt", "phi3"]
PROMPTS = [list(range(5, 14)), [7], list(range(40, 71)), [9, 8, 7, 6], list(range(5, 14))]
FREE = SamplingParams(max_tokens=12, ignore_eos=True)


def sharp_model(family: str = "llama", **overrides):
    """A tiny model with peaked attention, so that one key too many or too few changes its output."""
    model = tiny_model(family, **overrides)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name and "lm_head" not in name and "wte" not in name:
                parameter.mul_(8)
    return model


def deviation(model, prompt, completion: Completion, temperature: float = 1.0) -> float:
    """Largest difference between reported log-probabilities and those of one plain forward pass."""
    ids = torch.tensor([list(prompt) + list(completion.token_ids)])
    with torch.no_grad():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[0, len(prompt) - 1 : -1].float()
    plain = (logits / temperature).log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    return float((plain - torch.tensor(completion.log_probs)).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_are_those_of_the_plain_forward_pass(family):
    model = sharp_model(family)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the fallback would warn
        sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=4)
    samples = sampler.sample(PROMPTS, SamplingParams(max_tokens=40, temperature=0.8), samples_per_prompt=3)
    assert [len(of_prompt) for of_prompt in samples] == [3] * len(PROMPTS)
    worst = max(deviation(model, p, c, 0.8) for p, of_prompt in zip(PROMPTS, samples, strict=True) for c in of_prompt)
    assert worst < 1e-4


def test_a_model_with_custom_attention_is_sampled_with_its_own_cache():
    model = sharp_model("bloom")
    with pytest.warns(UserWarning, match="BloomForCausalLM"):
        sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=4)
    samples = sampler.sample(PROMPTS, FREE, samples_per_prompt=2)
    assert max(deviation(model, p, c) for p, cs in zip(PROMPTS, samples, strict=True) for c in cs) < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # warned once per model
        TorchSampler(model, tiny_tokenizer())


def test_a_window_that_layers_do_not_pass_to_attention_is_detected():
    model = sharp_model("llama")
    model.config.sliding_window = (
        4096  # declared, never passed to attention, and too wide to show in a short comparison
    )
    with pytest.warns(UserWarning, match="sliding window"):
        TorchSampler(model, tiny_tokenizer())


def test_a_wrong_flat_batch_is_detected(monkeypatch):
    import zhenlong.sampling.attention as attention

    capped = attention._apply_softcap
    monkeypatch.setattr(attention, "_apply_softcap", lambda scores, softcap: capped(1.3 * scores, softcap))
    with pytest.warns(UserWarning, match="deviates by"):
        TorchSampler(sharp_model("llama"), tiny_tokenizer())


def test_a_model_that_no_engine_reproduces_is_an_error(monkeypatch):
    monkeypatch.setattr("zhenlong.sampling.engines._log_prob_deviation", lambda *given, **named: 0.5)
    with pytest.raises(UserError, match=r"LlamaForCausalLM: .*by 5\.0e-01.* not supported"):
        TorchSampler(tiny_model("llama"), tiny_tokenizer())


def test_both_engines_and_any_schedule_give_the_same_samples():
    model, tokenizer = sharp_model("qwen2"), tiny_tokenizer()
    sampling = SamplingParams(
        max_tokens=70, temperature=1.0, seed=3, stop_token_ids=tuple(range(0, 256, 8))
    )  # uneven lengths
    expected = TorchSampler(model, tokenizer, max_num_seqs=1).sample(PROMPTS, sampling, samples_per_prompt=5)
    assert len({len(c.token_ids) for of_prompt in expected for c in of_prompt}) > 5
    for max_rows in (2, 3, 7, 64):
        got = TorchSampler(model, tokenizer, max_num_seqs=max_rows).sample(PROMPTS, sampling, samples_per_prompt=5)
        assert [[c.token_ids for c in cs] for cs in got] == [[c.token_ids for c in cs] for cs in expected]
    other = TorchSampler(model, tokenizer, max_num_seqs=3)
    other._make_engine = HFCacheEngine
    assert [[c.token_ids for c in cs] for cs in other.sample(PROMPTS, sampling, samples_per_prompt=5)] == [
        [c.token_ids for c in cs] for cs in expected
    ]


def test_a_prompt_with_its_own_seed_is_independent_of_the_other_prompts():
    sampler = TorchSampler(sharp_model(), tiny_tokenizer())
    alone = sampler.sample([PROMPTS[2]], SamplingParams(max_tokens=10, seed=11), samples_per_prompt=2)
    among = sampler.sample(
        PROMPTS, SamplingParams(max_tokens=10, seed=99), samples_per_prompt=2, seeds=[1, 2, 11, 4, 5]
    )
    assert [c.token_ids for c in among[2]] == [c.token_ids for c in alone[0]]
    assert among[0][0].token_ids != among[0][1].token_ids
    same_prompt = sampler.sample([PROMPTS[0], PROMPTS[0]], SamplingParams(max_tokens=10))
    assert same_prompt[0][0].token_ids != same_prompt[1][0].token_ids


def test_greedy_is_the_argmax_of_the_plain_forward_pass():
    model = sharp_model("gemma2")
    [[completion]] = TorchSampler(model, tiny_tokenizer()).sample(
        [PROMPTS[0]], SamplingParams(temperature=0, max_tokens=15)
    )
    ids = list(PROMPTS[0])
    for token in completion.token_ids:
        with torch.no_grad():
            assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)
    assert deviation(model, PROMPTS[0], completion) < 1e-4


def test_every_sequence_ends_at_max_tokens_a_stop_id_or_the_end_of_text():
    model, tokenizer = sharp_model(), tiny_tokenizer()
    model.lm_head.weight.data[256] *= 12  # end-of-text is sampled often
    samples = TorchSampler(model, tokenizer).sample(
        PROMPTS, SamplingParams(max_tokens=30, stop_token_ids=(65, 66)), samples_per_prompt=8
    )
    ends = set()
    for completion in (c for of_prompt in samples for c in of_prompt):
        stops = [token in (65, 66, 256) for token in completion.token_ids]
        assert not any(stops[:-1])
        assert completion.truncated == (not stops[-1])
        assert len(completion.token_ids) == 30 or stops[-1]
        assert len(completion.log_probs) == len(completion.token_ids)
        response_ids = completion.token_ids[:-1] if stops[-1] else completion.token_ids
        assert completion.text == tokenizer.decode(list(response_ids), skip_special_tokens=True)
        ends.add(completion.token_ids[-1] if stops[-1] else None)
    assert {256, None} <= ends
    unheeded = TorchSampler(model, tokenizer).sample(
        PROMPTS, SamplingParams(max_tokens=30, ignore_eos=True), samples_per_prompt=8
    )
    assert {len(c.token_ids) for cs in unheeded for c in cs} == {30}
    assert any(256 in c.token_ids[:-1] for cs in unheeded for c in cs)


def test_a_stop_string_across_tokens_ends_the_text_before_it_and_keeps_the_ids():
    sampler = TorchSampler(sharp_model(), tiny_tokenizer())
    letters = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    [[whole]] = sampler.sample([PROMPTS[0]], letters)
    stop = whole.text[6:9]
    assert len(stop) == 3
    [[cut]] = sampler.sample([PROMPTS[0]], SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert stop in sampler.tokenizer.decode(list(cut.token_ids))
    assert not cut.truncated


def test_the_streamed_pieces_join_to_the_sampled_text():
    sampler = TorchSampler(sharp_model(), tiny_tokenizer())
    for seed in range(4):
        plain = SamplingParams(max_tokens=60, seed=seed)
        [[whole]] = sampler.sample([PROMPTS[0]], plain)
        assert "".join(sampler.stream(PROMPTS[0], plain)) == whole.text
        stop = SamplingParams(max_tokens=60, seed=seed, stop=(whole.text[3:5],))
        [[cut]] = sampler.sample([PROMPTS[0]], stop)
        pieces = list(sampler.stream(PROMPTS[0], stop))
        assert "".join(pieces) == cut.text
        assert all(pieces)


def test_sampling_restores_mode_attention_gradients_and_global_random_states():
    model = sharp_model("llama", attention_dropout=0.5)
    sampler = TorchSampler(model, tiny_tokenizer())
    reference = sampler.sample(PROMPTS, FREE, samples_per_prompt=2)
    model.train()
    model.model.layers[1].eval()  # a submodule frozen in eval mode
    before = {name: module.training for name, module in model.named_modules()}
    torch.manual_seed(5)
    state, implementation = torch.get_rng_state(), model.config._attn_implementation
    stream = sampler.stream(PROMPTS[0], FREE)
    next(stream)
    assert torch.is_grad_enabled()  # also while a stream is suspended
    assert model.config._attn_implementation == implementation
    assert sampler.sample(PROMPTS, FREE, samples_per_prompt=2) == reference  # no dropout in between
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model(torch.tensor([PROMPTS[0]])).logits.sum().backward()  # the model can still be trained after sampling


def test_sampling_uses_weights_changed_in_place():
    model = sharp_model("qwen3")
    sampler = TorchSampler(model, tiny_tokenizer())
    [[before]] = sampler.sample([PROMPTS[2]], FREE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    [[after]] = sampler.sample([PROMPTS[2]], FREE)
    assert deviation(model, PROMPTS[2], after) < 1e-4
    assert deviation(model, PROMPTS[2], before) > 1e-2


def test_a_prompt_is_computed_once_for_all_its_samples():
    model = sharp_model()
    sampler = TorchSampler(model, tiny_tokenizer())
    sizes = []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: sizes.append(args[0].numel()))
    sampler.sample(PROMPTS, SamplingParams(max_tokens=3, ignore_eos=True), samples_per_prompt=4)
    rows = 4 * len(PROMPTS)
    assert sizes == [sum(map(len, PROMPTS)), rows, rows]


def test_finished_sequences_leave_and_waiting_sequences_start():
    model = sharp_model()
    sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=4)
    sizes = []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: sizes.append(args[0].numel()))
    samples = sampler.sample(
        [[5], [6]], SamplingParams(max_tokens=30, stop_token_ids=tuple(range(0, 256, 8))), samples_per_prompt=6
    )
    needed = (
        sum(len(c.token_ids) - 1 for cs in samples for c in cs) + 2
    )  # the last token is never an input; each prompt has one
    assert sum(sizes) == needed
    assert max(sizes) <= 5  # four sequences and a prompt to prefill


def test_responses_longer_than_the_initial_columns_and_one_much_longer_than_the_others():
    model = sharp_model("gemma3")
    sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=3)
    lengths = SamplingParams(max_tokens=200, stop_token_ids=(10, 20, 30, 40))
    samples = sampler.sample(PROMPTS, lengths, samples_per_prompt=4)
    assert max(len(c.token_ids) for cs in samples for c in cs) > 128
    assert max(deviation(model, p, c) for p, cs in zip(PROMPTS, samples, strict=True) for c in cs) < 1e-4


def test_the_context_length_truncates_a_completion_and_refuses_a_prompt_that_fills_it():
    model = sharp_model("gpt2", n_positions=20)
    sampler = TorchSampler(model, tiny_tokenizer())
    [[completion]] = sampler.sample([list(range(15))], SamplingParams(max_tokens=50, ignore_eos=True))
    assert len(completion.token_ids) == 5
    assert completion.truncated
    with pytest.raises(UserError, match=r"prompt 1: 20 tokens .* 20; expected at most 19"):
        sampler.sample([[1, 2], list(range(20))], FREE)


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([[1], []], {}, "prompt 1: expected at least one token"),
        ([[1, 999]], {}, "prompt 0: expected ids from 0 to 258, got 999"),
        ([[1]], {"samples_per_prompt": 0}, "samples_per_prompt: expected at least 1"),
        ([[1]], {"seeds": [1, 2]}, "seeds: expected 1"),
    ],
)
def test_an_invalid_request_is_a_one_line_error(prompts, settings, message):
    with pytest.raises(UserError, match=message):
        TorchSampler(sharp_model(), tiny_tokenizer()).sample(prompts, FREE, **settings)


def test_non_finite_logits_are_an_error():
    model = copy.deepcopy(sharp_model())
    sampler = TorchSampler(model, tiny_tokenizer())
    good = copy.deepcopy(model.state_dict())
    model.model.layers[0].mlp.up_proj.weight.data[:] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        sampler.sample([PROMPTS[0]], FREE)
    model.load_state_dict(good)
    [[recovered]] = sampler.sample([PROMPTS[0]], FREE)
    assert deviation(model, PROMPTS[0], recovered) < 1e-4


@pytest.mark.parametrize("setting", ["weights", "autocast"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gemma2"])
def test_half_precision_stays_near_full_precision(setting, family):
    model, full = sharp_model(family), sharp_model(family)
    if setting == "weights":
        model.to(torch.bfloat16)
    sampler = TorchSampler(model, tiny_tokenizer(), autocast=torch.bfloat16 if setting == "autocast" else None)
    [completions] = sampler.sample([PROMPTS[0]], FREE, samples_per_prompt=3)
    assert max(deviation(full, PROMPTS[0], c) for c in completions) < 0.1


def test_on_a_cpu_the_caller_s_autocast_does_not_affect_samples():
    sampler = TorchSampler(sharp_model(), tiny_tokenizer())
    plain = sampler.sample([PROMPTS[0]], FREE, samples_per_prompt=3)
    with torch.autocast("cpu", torch.bfloat16):
        assert sampler.sample([PROMPTS[0]], FREE, samples_per_prompt=3) == plain


def test_no_prompts_give_no_completions():
    assert TorchSampler(sharp_model(), tiny_tokenizer()).sample([], FREE) == []


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral_window", "gpt2"])
def test_a_common_prefix_is_computed_once_and_does_not_change_samples(family):
    model, start = sharp_model(family), list(range(30, 60))
    prompts = [[*start, 5, 6, 7], [*start, 9], [*start, 5, 8, *range(100, 120)]]
    seen = []
    embeddings = model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=4)  # the third prompt is prefilled later
    seen.clear()
    samples = sampler.sample(prompts, FREE, samples_per_prompt=3)
    hook.remove()  # without it layers may be fused
    assert max(deviation(model, p, c) for p, of_prompt in zip(prompts, samples, strict=True) for c in of_prompt) < 1e-4
    assert seen[0] == len(start) + 3 + 1
    alone = [sampler.sample([prompt], FREE, samples_per_prompt=3, seeds=[7])[0] for prompt in prompts]
    together = sampler.sample(prompts, FREE, samples_per_prompt=3, seeds=[7, 7, 7])
    assert [[c.token_ids for c in cs] for cs in together] == [[c.token_ids for c in cs] for cs in alone]


def test_as_many_sequences_run_at_once_as_memory_allows():
    model = sharp_model("llama")
    config = model.config
    token = 8 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim  # bytes in float32
    sampler = TorchSampler(model, tokenizer := tiny_tokenizer())
    sampler.context_length = 2**40
    assert sampler._num_seqs_that_fit(100) == 256
    assert sampler._num_seqs_that_fit(2**31 / token / 100.5) == 100
    assert sampler._num_seqs_that_fit(2**31 / token) == 16
    assert TorchSampler(model, tokenizer, max_num_seqs=7)._num_seqs_that_fit(1) == 7


def test_values_may_have_a_smaller_head_size_than_keys():
    config = DeepseekV3Config(
        vocab_size=256, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, first_k_dense_replace=2, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8,
        v_head_dim=12,
    )  # fmt: skip
    torch.manual_seed(0)
    model = DeepseekV3ForCausalLM(config).eval()
    sampler = TorchSampler(model, tiny_tokenizer(), max_num_seqs=3)
    assert sampler._make_engine is flat_engine
    for completions, prompt in zip(
        sampler.sample(PROMPTS, SamplingParams(max_tokens=8), samples_per_prompt=2), PROMPTS, strict=True
    ):
        assert max(deviation(model, prompt, one) for one in completions) < 1e-4


@pytest.mark.parametrize(
    ("keyword", "given"), [("is_causal", False), ("s_aux", torch.zeros(2)), ("attention_mask", torch.zeros(1))]
)
def test_attention_that_the_sampler_does_not_compute_is_refused(keyword, given):
    states = torch.zeros(1, 2, 3, 4)
    with pytest.raises(UnsupportedAttention, match="mask" if keyword == "attention_mask" else keyword):
        sampling_attention(
            torch.nn.Identity(), states, states, states, **{"attention_mask": None, "metadata": None, keyword: given}
        )
