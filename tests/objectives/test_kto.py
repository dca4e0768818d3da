"""KTO: values and gradients at the reference, the effect of baseline and weights, and mismatched pairs."""

import math

import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.objectives import KTOSettings, kl_baseline, kto_loss, mismatched

BOTH = torch.tensor([True, False])


def losses_and_derivatives(
    ratios: list[float], desirable: torch.Tensor, baseline: float = 0.0, **options
) -> tuple[list, list]:
    """Losses, and their derivatives with respect to each log-probability."""
    log_probs = torch.tensor(ratios, dtype=torch.float64, requires_grad=True)
    losses = kto_loss(log_probs, torch.zeros_like(log_probs), desirable, KTOSettings(**options), baseline).losses
    losses.sum().backward()
    return losses.tolist(), log_probs.grad.tolist()


def test_at_the_reference_each_loss_is_half_its_weight_and_labels_have_opposite_gradients() -> None:
    losses, gradient = losses_and_derivatives([0.0, 0.0], BOTH, beta=0.2, desirable_weight=1.5, undesirable_weight=0.8)
    assert losses == pytest.approx([0.75, 0.4])
    assert gradient == pytest.approx([-0.2 * 1.5 / 4, 0.2 * 0.8 / 4])


def test_a_response_at_the_baseline_has_half_its_weight_as_loss() -> None:
    losses, _ = losses_and_derivatives([3.0, 3.0], BOTH, baseline=3.0)
    assert losses == pytest.approx([0.5, 0.5])
    above, _ = losses_and_derivatives([5.0, 5.0], BOTH, baseline=3.0)
    assert above[0] < 0.5 < above[1]


def test_the_gradient_vanishes_on_both_sides() -> None:
    """Unlike DPO, whose gradient is largest for a pair that is very wrong."""
    _, gradient = losses_and_derivatives([-200.0, 0.0, 200.0], torch.tensor([True] * 3))
    assert abs(gradient[0]) < 1e-6
    assert abs(gradient[2]) < 1e-6
    assert gradient[1] == min(gradient)


def test_desirable_and_undesirable_losses_are_symmetric() -> None:
    up, pull_up = losses_and_derivatives([1.7], torch.tensor([True]), baseline=0.4)
    down, pull_down = losses_and_derivatives([0.8 - 1.7], torch.tensor([False]), baseline=0.4)
    assert up == pytest.approx(down)
    assert pull_up == pytest.approx([-pull_down[0]])


def test_rewards_are_beta_times_the_log_ratio_without_gradient() -> None:
    log_probs = torch.tensor([-5.0, -7.0], requires_grad=True)
    found = kto_loss(log_probs, torch.tensor([-6.0, -6.5]), BOTH, KTOSettings(0.2), 4.0)
    assert found.rewards.tolist() == pytest.approx([0.2, -0.1])
    assert not found.rewards.requires_grad


def test_the_baseline_is_a_nonnegative_mean_without_gradient() -> None:
    log_probs = torch.tensor([-1.0, -5.0, -3.0], requires_grad=True)
    baseline = kl_baseline(log_probs, torch.tensor([-2.0, -5.5, -4.5]))
    assert baseline.item() == pytest.approx(1.0)
    assert not baseline.requires_grad
    assert kl_baseline(log_probs, torch.zeros(3)).item() == 0.0


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_mismatched_moves_every_response_and_uses_each_once(count: int) -> None:
    moved = mismatched(range(count))
    assert sorted(moved) == list(range(count))
    assert all(own != other for own, other in enumerate(moved))


@pytest.mark.parametrize("count", [0, 1])
def test_a_mismatch_needs_two_responses(count: int) -> None:
    with pytest.raises(ValueError, match="at least two"):
        mismatched(range(count))


def test_gradient() -> None:
    inputs = [(3 * torch.randn(4, dtype=torch.float64)).requires_grad_() for _ in range(2)]
    desirable = torch.tensor([True, False, False, True])
    settings = KTOSettings(0.3, desirable_weight=2.0, undesirable_weight=0.5)
    assert torch.autograd.gradcheck(lambda *x: kto_loss(*x, desirable, settings, 0.7).losses, inputs)


@pytest.mark.parametrize(
    "wrong",
    [{"beta": 0.0}, {"beta": math.inf}, {"loss": "dpo"}, {"desirable_weight": 0.0}, {"undesirable_weight": -1.0}],
)
def test_invalid_options_are_user_errors(wrong) -> None:
    good = {"beta": 0.1, "loss": "kto", "desirable_weight": 1.0, "undesirable_weight": 1.0}
    KTOSettings(**good)
    with pytest.raises(UserError, match=next(iter(wrong))):
        KTOSettings(**{**good, **wrong})
