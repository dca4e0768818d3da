"""Sampling tokens: the correct distribution, support and log-probabilities."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from zhenlong.errors import UserError
from zhenlong.sampling import SamplingParams
from zhenlong.sampling.token_sampling import philox_uniforms, sample_tokens


def uniforms(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


@pytest.mark.parametrize("vocabulary", [5, 64, 200, 1000])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.6),
        SamplingParams(top_k=7),
        SamplingParams(top_p=0.7),
        SamplingParams(min_p=0.3),
    ],
)
def test_frequencies_match_the_reported_log_probs(vocabulary, sampling):
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    count = 40_000
    ids, log_probs = sample_tokens(logits, uniforms(1, count), sampling)
    stated = torch.zeros(vocabulary, dtype=torch.float64)
    stated[ids[0]] = log_probs[0].double().exp()
    assert stated.sum() == pytest.approx(1, abs=5e-3)  # rare ids may be missing
    observed = torch.bincount(ids[0], minlength=vocabulary).double()
    often = stated * count >= 5
    seen, expected = observed[often], stated[often] * count
    rest, left = observed[~often].sum(), count - expected.sum()
    if left > 5:
        seen, expected = torch.cat((seen, rest[None])), torch.cat((expected, left[None]))
    assert len(seen) == 1 or chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-4


def test_log_probs_are_the_softmax_at_the_sampling_temperature():
    logits = torch.randn(6, 300) * 4
    ids, log_probs = sample_tokens(logits, uniforms(6, 50), SamplingParams(temperature=0.7))
    expected = (logits / 0.7).log_softmax(-1).gather(1, ids)
    torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=1e-5)


def test_truncated_log_probs_are_renormalised_over_the_kept_ids():
    logits = torch.randn(4, 100) * 2
    ids, log_probs = sample_tokens(logits, uniforms(4, 200), SamplingParams(top_k=5, temperature=1.3))
    kept = (logits / 1.3).topk(5)
    for row in range(4):
        assert set(ids[row].tolist()) <= set(kept.indices[row].tolist())
        expected = dict(zip(kept.indices[row].tolist(), kept.values[row].log_softmax(-1).tolist(), strict=True))
        assert log_probs[row].tolist() == pytest.approx([expected[i] for i in ids[row].tolist()], abs=1e-5)


def test_the_nucleus_is_the_smallest_set_with_the_mass_even_when_it_is_large():
    for vocabulary in (50, 2000):  # the second needs more than the few hundred most probable ids
        logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(1)) * 0.1
        probs, order = logits.softmax(-1)[0].double().sort(descending=True)
        size = int((probs.cumsum(0) < 0.6).sum()) + 1
        ids, log_probs = sample_tokens(logits, uniforms(1, 20_000), SamplingParams(top_p=0.6))
        assert set(ids[0].tolist()) <= set(order[:size].tolist())
        least = order[size - 1]
        if (ids[0] == least).any():  # the id with which the set reaches the mass belongs to it
            stated = log_probs[0][ids[0] == least][0].exp()
            assert float(stated) == pytest.approx(float(probs[size - 1] / probs[:size].sum()), rel=1e-4)
        assert vocabulary > 50 or set(ids[0].tolist()) == set(order[:size].tolist())


def test_min_p_keeps_ids_relative_to_the_highest_probability():
    logits = torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.04]]).log()
    ids, _ = sample_tokens(logits, uniforms(1, 5000), SamplingParams(min_p=0.15))
    assert set(ids[0].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53, 0.5])
def test_an_id_of_probability_zero_is_never_sampled(edge):
    logits = torch.full((1, 130), -torch.inf)
    logits[0, [3, 70]] = 0.0
    ids, log_probs = sample_tokens(logits, torch.full((1, 1), edge, dtype=torch.float64), SamplingParams())
    assert ids.item() == (3 if edge < 0.5 else 70)
    assert log_probs.item() == pytest.approx(np.log(0.5))


def test_very_rare_ids_are_sampled_with_their_probability():
    # The last id has probability 2e-9, less than one part in 2^24: a float32 cumulative sum would lose it.
    logits = torch.zeros(1, 128)
    logits[0, -1] = -15.0
    share = float(logits.double().softmax(-1)[0, -1])
    inside, outside = 1 - share / 2, 1 - share * 2
    ids, _ = sample_tokens(logits, torch.tensor([[inside, outside]], dtype=torch.float64), SamplingParams())
    assert ids[0].tolist() == [127, 126]


def test_greedy_takes_the_most_probable_id_and_reports_its_log_prob_at_temperature_one():
    logits = torch.randn(5, 90)
    ids, log_probs = sample_tokens(logits, uniforms(5, 1), SamplingParams(temperature=0))
    assert torch.equal(ids[:, 0], logits.argmax(-1))
    torch.testing.assert_close(log_probs[:, 0], logits.log_softmax(-1).max(-1).values)


def test_a_tiny_temperature_is_greedy_without_overflow():
    logits = torch.randn(5, 90) * 30
    ids, log_probs = sample_tokens(logits, uniforms(5, 1), SamplingParams(temperature=1e-38))
    assert torch.equal(ids[:, 0], logits.argmax(-1))
    assert log_probs.abs().max() == 0


def test_random_numbers_depend_only_on_seed_prompt_and_sample():
    longer, shorter = philox_uniforms(5, 2, 3, count=100), philox_uniforms(5, 2, 3, count=10)
    assert np.array_equal(longer[:10], shorter)
    others = [philox_uniforms(*key, count=10) for key in [(6, 2, 3), (5, 3, 3), (5, 2, 4), (5, 3, 2), (-1, 0, 0)]]
    assert all(not np.allclose(shorter, other) for other in others)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1},
        {"min_p": 2.0}, {"max_tokens": 0}, {"stop": ("",)},
    ],
)  # fmt: skip
def test_the_error_names_a_parameter_out_of_range(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SamplingParams(**wrong)


def test_a_nan_logit_makes_the_log_prob_of_its_row_nan():
    logits = torch.zeros(2, 100)
    logits[0, 70] = float("nan")
    _, log_probs = sample_tokens(logits, torch.full((2, 1), 0.5, dtype=torch.float64), SamplingParams())
    assert log_probs[0].isnan()
    assert log_probs[1].isfinite()
