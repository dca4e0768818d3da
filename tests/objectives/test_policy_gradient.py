"""The clipped surrogate, the value loss and entropy: first step, clipping regions, exact gradients."""

import math

import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.objectives import RatioSettings, entropy, policy_loss, sampled_entropy, token_weights, value_loss

RESPONSE_INDEX = torch.tensor([0, 0, 0, 1, 1])
OLD = torch.tensor([-1.0, -2.0, -0.5, -3.0, -0.1], dtype=torch.float64)
ADVANTAGES = torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0], dtype=torch.float64)


def single_token_loss(ratio: float, advantage: float, **options):
    """Loss, derivative with respect to the new log-probability, and metrics, for a single token."""
    x = torch.tensor([ratio], dtype=torch.float64).log().requires_grad_()
    zero = torch.zeros(1, dtype=torch.float64)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    loss, metrics = policy_loss(x, zero, advantages, torch.zeros(1, dtype=torch.long), 1, RatioSettings(**options))
    loss.backward()
    return loss.item(), x.grad.item(), metrics


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_on_the_first_step_the_ratio_is_one_and_the_gradient_is_the_policy_gradient(level: str) -> None:
    x = OLD.clone().requires_grad_()
    loss, metrics = policy_loss(x, OLD, ADVANTAGES, RESPONSE_INDEX, 2, RatioSettings(level=level))
    loss.backward()
    assert loss.item() == pytest.approx(-ADVANTAGES.sum().item())
    torch.testing.assert_close(x.grad, -ADVANTAGES)
    assert {name: value.item() for name, value in metrics.items()} == {
        "ratio": 5.0,
        "clip_fraction": 0.0,
        "approx_kl": 0.0,
    }


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.1, 1.0, -1.1, True),
        (1.5, 1.0, -1.28, False),  # above the upper bound already
        (0.5, 1.0, -0.5, True),  # a good token became less probable: never clipped
        (0.5, -1.0, 0.8, False),
        (1.5, -1.0, 1.5, True),
    ],
)
def test_clipping_removes_only_gains_beyond_the_range(ratio, advantage, loss, moves) -> None:
    value, derivative, metrics = single_token_loss(ratio, advantage, clip_low=0.2, clip_high=0.28)
    assert value == pytest.approx(loss)
    assert derivative == pytest.approx(-advantage * ratio if moves else 0.0)
    assert metrics["clip_fraction"].item() == (0.0 if moves else 1.0)


def test_the_sequence_ratio_is_length_normalised_and_shared_by_all_tokens() -> None:
    moves = torch.tensor([0.3, -0.1, 0.1, 0.4, 0.0], dtype=torch.float64)
    _, metrics = policy_loss(OLD + moves, OLD, ADVANTAGES, RESPONSE_INDEX, 2, RatioSettings(level="sequence"))
    expected = 3 * torch.tensor(0.1).exp() + 2 * torch.tensor(0.2).exp()
    assert metrics["ratio"].item() == pytest.approx(expected.item())
    weights = token_weights(RESPONSE_INDEX, 2, "sequence").double()
    loss, _ = policy_loss(
        OLD + moves, OLD, ADVANTAGES, RESPONSE_INDEX, 2, RatioSettings(clip_high=1.0, level="sequence"), weights
    )
    assert loss.item() == pytest.approx(-(torch.tensor(0.1).exp() - 2 * torch.tensor(0.2).exp()).item())


def test_approx_kl_is_an_unbiased_estimate_of_kl_old_to_new() -> None:
    old, new = torch.tensor([0.2, 0.5, 0.3]).double(), torch.tensor([0.4, 0.4, 0.2]).double()
    total = 0.0
    for p, q in zip(old, new, strict=True):
        _, _, metrics = single_token_loss((q / p).item(), 1.0)
        total += p.item() * metrics["approx_kl"].item()
    assert total == pytest.approx((old * (old / new).log()).sum().item())


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_policy_gradcheck(level: str) -> None:
    x = (OLD + torch.tensor([0.05, -0.3, 0.4, 0.02, -0.1])).requires_grad_()
    weights = token_weights(RESPONSE_INDEX, 2, "sequence").double()
    assert torch.autograd.gradcheck(
        lambda y: policy_loss(y, OLD, ADVANTAGES, RESPONSE_INDEX, 2, RatioSettings(level=level), weights)[0], x
    )


def test_value_loss_without_clip_is_half_the_squared_error() -> None:
    values, returns = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0])
    loss, metrics = value_loss(values, values, returns, clip=None)
    assert loss.item() == pytest.approx(0.5 * (1 + 9))
    assert metrics["value_clip_fraction"].item() == 0.0


def test_value_clipping_stops_a_value_outside_the_range_and_never_lowers_the_loss() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    loss, metrics = value_loss(x, torch.tensor([0.0]), torch.tensor([1.5]), clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 1.3**2)
    assert x.grad.item() == 0.0
    assert metrics["value_clip_fraction"].item() == 1.0
    values, old, returns = torch.randn(3, 100)
    assert value_loss(values, old, returns, clip=0.2)[0] >= value_loss(values, old, returns, clip=None)[0]


def test_value_gradcheck() -> None:
    values = torch.tensor([0.1, 1.0, -2.0], dtype=torch.float64, requires_grad=True)
    old, returns = torch.zeros(3).double(), torch.tensor([1.0, 0.3, -5.0]).double()
    weights = torch.tensor([0.5, 1.0, 2.0]).double()
    assert torch.autograd.gradcheck(lambda v: value_loss(v, old, returns, weights=weights)[0], values)


def test_entropy_of_uniform_and_certain_distributions() -> None:
    assert entropy(torch.zeros(3, 8)).tolist() == pytest.approx([torch.tensor(8.0).log().item()] * 3)
    assert entropy(torch.tensor([1e4, 0.0])).item() == 0.0


def test_sampled_entropy_has_the_expected_value_and_gradient_of_entropy() -> None:
    logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    sampled = (logits.detach().softmax(0) * sampled_entropy(logits.log_softmax(0))).sum()
    exact = entropy(logits)
    assert sampled.item() == pytest.approx(exact.item())
    torch.testing.assert_close(torch.autograd.grad(sampled, logits)[0], torch.autograd.grad(exact, logits)[0])


def test_unknown_level_is_a_user_error() -> None:
    with pytest.raises(UserError, match="token, sequence"):
        single_token_loss(1.0, 1.0, level="word")


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("log_ratio", [-100.0, 100.0, 1e4])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_extreme_ratios_have_gradient_zero(level, log_ratio, advantage) -> None:
    x = torch.tensor([log_ratio], requires_grad=True)  # float32, where exp(100) is infinite
    zero, one = torch.zeros(1), torch.tensor([advantage])
    loss, metrics = policy_loss(x, zero, one, torch.zeros(1, dtype=torch.long), 1, RatioSettings(level=level))
    loss.backward()
    assert x.grad.item() == pytest.approx(0.0, abs=1e-8)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (5.0, -1.0, 3.0, False),  # bounded
        (2.0, -1.0, 2.0, True),
        (0.5, -1.0, 0.8, False),
        (5.0, 1.0, -1.2, False),  # a positive advantage is clipped as before
    ],
)
def test_dual_clip_bounds_the_loss_of_negative_advantages(ratio, advantage, loss, moves) -> None:
    value, derivative, metrics = single_token_loss(ratio, advantage, dual_clip=3.0)
    assert value == pytest.approx(loss)
    assert derivative == pytest.approx(-advantage * ratio if moves else 0.0)
    assert metrics["clip_fraction"].item() == (0.0 if moves else 1.0)


@pytest.mark.parametrize("value", [1.0, 0.5, -3.0])
def test_a_dual_clip_of_at_most_one_is_refused(value) -> None:
    with pytest.raises(UserError, match="dual_clip: expected a number above 1"):
        RatioSettings(dual_clip=value)


def test_rounding_is_not_counted_as_a_clipped_value() -> None:
    torch.manual_seed(0)
    old = torch.randn(10_000) * 3
    values, returns = old + torch.empty(10_000).uniform_(-0.19, 0.19), torch.randn(10_000)
    _, metrics = value_loss(values, old, returns, clip=0.2)
    assert metrics["value_clip_fraction"].item() == 0.0


@pytest.mark.parametrize("surrogate", ["clip", "cispo", "gmpo", "sapo"])
def test_every_surrogate_begins_with_the_policy_gradient(surrogate: str) -> None:
    """At the ratio 1; GMPO's is that of the mean over each response."""
    x = OLD.clone().requires_grad_()
    weights = token_weights(RESPONSE_INDEX, 2, "sequence").double()
    loss, metrics = policy_loss(x, OLD, ADVANTAGES, RESPONSE_INDEX, 2, RatioSettings(surrogate=surrogate), weights)
    loss.backward()
    torch.testing.assert_close(x.grad, -weights * ADVANTAGES)
    assert metrics["clip_fraction"] == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight"), [(0.1, 1.0, 0.5), (3.0, 1.0, 1.5), (3.0, -2.0, 1.5), (1.2, 1.0, 1.2)]
)
def test_cispo_clips_the_weight_and_keeps_the_gradient(ratio: float, advantage: float, weight: float) -> None:
    loss, slope, metrics = single_token_loss(ratio, advantage, surrogate="cispo", clip_low=0.5, clip_high=0.5)
    assert loss == pytest.approx(-weight * advantage * torch.tensor(ratio).log().item(), rel=1e-6)
    assert slope == pytest.approx(-weight * advantage)  # d log π / d log π = 1, with the weight as a constant
    assert metrics["clip_fraction"].item() == (weight != ratio)


@pytest.mark.parametrize(
    ("ratio", "advantage", "tau"), [(0.3, 1.0, 1.0), (2.5, 1.0, 1.0), (2.5, -1.0, 1.05), (0.3, -2.0, 1.05)]
)
def test_sapo_is_a_gate_whose_slope_falls_on_both_sides(ratio: float, advantage: float, tau: float) -> None:
    loss, slope, _ = single_token_loss(ratio, advantage, surrogate="sapo")
    gate = 1 / (1 + math.exp(-tau * (ratio - 1)))
    assert loss == pytest.approx(-advantage * 4 / tau * gate)
    assert slope == pytest.approx(-advantage * 4 * gate * (1 - gate) * ratio)
    assert abs(slope) < ratio * abs(advantage)  # what no gate at all would give


def test_gmpo_is_the_geometric_mean_of_ratios_clipped_on_one_side() -> None:
    x = (OLD + torch.tensor([0.3, -0.9, 0.9, 0.9, -0.9])).requires_grad_()
    settings = RatioSettings(clip_low=0.4, clip_high=0.5, surrogate="gmpo")
    weights = token_weights(RESPONSE_INDEX, 2, "sequence").double()
    loss, metrics = policy_loss(x, OLD, ADVANTAGES, RESPONSE_INDEX, 2, settings, weights)
    first, second = math.exp((0.3 - 0.9 + 0.5) / 3), math.exp((0.9 - 0.4) / 2)  # A > 0: from above, A < 0: from below
    assert loss.item() == pytest.approx(-(1.0 * first - 2.0 * second))
    loss.backward()
    expected = torch.tensor([-first / 3, -first / 3, 0.0, 2 * second / 2, 0.0], dtype=torch.float64)
    torch.testing.assert_close(x.grad, expected)
    assert metrics["clip_fraction"] == 2


def test_surrogates_have_no_nan_far_away_and_refuse_what_they_do_not_read() -> None:
    for surrogate in ("cispo", "gmpo", "sapo"):
        x = (OLD + torch.tensor([100.0, -100.0, 100.0, -100.0, 100.0])).requires_grad_()
        loss, _ = policy_loss(x, OLD, ADVANTAGES, RESPONSE_INDEX, 2, RatioSettings(surrogate=surrogate))
        loss.backward()
        assert loss.isfinite()
        assert x.grad.isfinite().all()
        for wrong in ({"dual_clip": 3.0}, {"level": "sequence"}):
            with pytest.raises(UserError, match=f"surrogate {surrogate}: expected the level token"):
                RatioSettings(surrogate=surrogate, **wrong)
    with pytest.raises(UserError, match="surrogate: expected one of clip, cispo, gmpo, sapo, got 'ppo'"):
        RatioSettings(surrogate="ppo")
