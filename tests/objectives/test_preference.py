"""The DPO family: value at the reference, limits, optima and gradients."""

import math

import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.objectives import preference_loss

LENGTHS = {"chosen_tokens": torch.tensor([3, 9]), "rejected_tokens": torch.tensor([5, 2])}


def of(h: float, **options):
    """The loss of one pair whose log-ratio difference is h, and its derivative by h."""
    x = torch.tensor([h], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    losses = preference_loss(x, zero, zero, zero, **options).losses
    losses.sum().backward()
    return losses.item(), x.grad.item()


def test_at_the_reference_dpo_is_log_two_and_rewards_are_zero() -> None:
    chosen, rejected = torch.tensor([-12.5, -40.0]), torch.tensor([-30.0, -8.0])
    for loss in ("sigmoid", "robust"):
        result = preference_loss(chosen, rejected, chosen, rejected, loss=loss)
        assert result.losses.tolist() == pytest.approx([math.log(2)] * 2)
        assert result.chosen_rewards.tolist() == result.rejected_rewards.tolist() == [0.0, 0.0]
    assert preference_loss(chosen, rejected, chosen, rejected, loss="hinge").losses.tolist() == [1.0, 1.0]
    ipo = preference_loss(chosen, rejected, chosen, rejected, beta=0.5, loss="ipo", **LENGTHS)
    assert ipo.losses.tolist() == [1.0, 1.0]


def test_sigmoid_goes_to_zero_for_a_clear_win_and_is_linear_for_a_clear_loss() -> None:
    assert of(1e4)[0] == pytest.approx(0.0, abs=1e-12)
    assert of(-1e4)[0] == pytest.approx(1e3)
    assert of(0.0)[1] == pytest.approx(-0.1 / 2)


def test_cdpo_stops_at_its_noise_level_and_robust_dpo_does_not() -> None:
    h = math.log(0.8 / 0.2) / 0.1  # σ(βh) = 0.8
    assert of(h, label_smoothing=0.2)[1] == pytest.approx(0.0, abs=1e-12)
    assert of(h, label_smoothing=0.2, loss="robust")[1] < -1e-3


def test_robust_dpo_is_unbiased_under_flipped_labels() -> None:
    clean = of(7.0)[0]
    right, flipped = (of(h, loss="robust", label_smoothing=0.3)[0] for h in (7.0, -7.0))
    assert 0.7 * right + 0.3 * flipped == pytest.approx(clean)


def test_ipo_averages_over_tokens_and_is_least_at_its_target() -> None:
    options = {"loss": "ipo", "beta": 0.25, "chosen_tokens": torch.tensor([4]), "rejected_tokens": torch.tensor([7])}
    assert of(4 * 2.0, **options) == pytest.approx((0.0, 0.0))
    assert of(8 * 2.0, **options)[0] == pytest.approx(4.0)
    with pytest.raises(ValueError, match="chosen_tokens"):
        of(1.0, loss="ipo")


def test_hinge_is_flat_beyond_its_margin() -> None:
    assert of(10.1, loss="hinge") == (0.0, 0.0)
    assert of(9.0, loss="hinge") == pytest.approx((0.1, -0.1))


def test_rewards_are_beta_times_the_log_ratio_without_gradient() -> None:
    chosen = torch.tensor([-5.0], requires_grad=True)
    result = preference_loss(chosen, torch.tensor([-7.0]), torch.tensor([-6.0]), torch.tensor([-6.5]), beta=0.2)
    assert result.chosen_rewards.item() == pytest.approx(0.2)
    assert result.rejected_rewards.item() == pytest.approx(-0.1)
    assert not result.chosen_rewards.requires_grad


@pytest.mark.parametrize(
    ("loss", "smoothing"), [("sigmoid", 0.0), ("sigmoid", 0.1), ("robust", 0.1), ("ipo", 0.0), ("hinge", 0.0)]
)
def test_gradient(loss: str, smoothing: float) -> None:
    inputs = [(3 * torch.randn(2, dtype=torch.float64)).requires_grad_() for _ in range(4)]
    options = {"loss": loss, "label_smoothing": smoothing, "beta": 0.3, **LENGTHS}
    assert torch.autograd.gradcheck(lambda *x: preference_loss(*x, **options).losses, inputs)


@pytest.mark.parametrize(
    "options",
    [{"loss": "dpo"}, {"label_smoothing": 0.5}, {"label_smoothing": -0.1}, {"loss": "hinge", "label_smoothing": 0.1}],
)
def test_wrong_options_are_user_errors(options) -> None:
    with pytest.raises(UserError):
        of(1.0, **options)
