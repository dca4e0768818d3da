"""The DPO family: values at the reference, limits, optima and gradients."""

import math

import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.objectives import PreferenceLogProbs, PreferenceLosses, PreferenceSettings, preference_loss
from zhenlong.objectives.preference import PREFERENCE_LOSSES

LENGTHS = {"chosen_tokens": torch.tensor([3, 9]), "rejected_tokens": torch.tensor([5, 2])}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pair_losses(*log_probs, chosen_tokens=None, rejected_tokens=None, sft_tokens=None, **settings) -> PreferenceLosses:
    """Of the chosen, the rejected, and the reference's chosen and rejected response, the last two where needed."""
    pairs = PreferenceLogProbs(*log_probs, chosen_tokens=chosen_tokens, rejected_tokens=rejected_tokens)
    return preference_loss(pairs, PreferenceSettings(**settings), sft_tokens)


def loss_and_derivative(h: float, **options):
    """The loss of one pair with log-ratio difference h, and its derivative with respect to h."""
    x = torch.tensor([h], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    losses = pair_losses(x, zero, zero, zero, **options).losses
    losses.sum().backward()
    return losses.item(), x.grad.item()


def test_at_the_reference_the_dpo_loss_is_log_two_and_rewards_are_zero() -> None:
    chosen, rejected = torch.tensor([-12.5, -40.0]), torch.tensor([-30.0, -8.0])
    for loss in ("sigmoid", "robust"):
        result = pair_losses(chosen, rejected, chosen, rejected, loss=loss)
        assert result.losses.tolist() == pytest.approx([math.log(2)] * 2)
        assert result.chosen_rewards.tolist() == result.rejected_rewards.tolist() == [0.0, 0.0]
    assert pair_losses(chosen, rejected, chosen, rejected, loss="hinge").losses.tolist() == [1.0, 1.0]
    ipo = pair_losses(chosen, rejected, chosen, rejected, beta=0.5, loss="ipo", **LENGTHS)
    assert ipo.losses.tolist() == [1.0, 1.0]


def test_sigmoid_vanishes_for_large_positive_and_is_linear_for_large_negative_h() -> None:
    assert loss_and_derivative(1e4)[0] == pytest.approx(0.0, abs=1e-12)
    assert loss_and_derivative(-1e4)[0] == pytest.approx(1e3)
    assert loss_and_derivative(0.0)[1] == pytest.approx(-0.1 / 2)


def test_the_gradient_of_cdpo_is_zero_at_its_noise_level_and_that_of_robust_dpo_is_not() -> None:
    h = math.log(0.8 / 0.2) / 0.1  # σ(βh) = 0.8
    assert loss_and_derivative(h, label_smoothing=0.2)[1] == pytest.approx(0.0, abs=1e-12)
    assert loss_and_derivative(h, label_smoothing=0.2, loss="robust")[1] < -1e-3


def test_robust_dpo_is_unbiased_under_flipped_labels() -> None:
    clean = loss_and_derivative(7.0)[0]
    right, flipped = (loss_and_derivative(h, loss="robust", label_smoothing=0.3)[0] for h in (7.0, -7.0))
    assert 0.7 * right + 0.3 * flipped == pytest.approx(clean)


def test_ipo_averages_over_tokens_and_is_minimal_at_its_target() -> None:
    options = {"loss": "ipo", "beta": 0.25, "chosen_tokens": torch.tensor([4]), "rejected_tokens": torch.tensor([7])}
    assert loss_and_derivative(4 * 2.0, **options) == pytest.approx((0.0, 0.0))
    assert loss_and_derivative(8 * 2.0, **options)[0] == pytest.approx(4.0)
    with pytest.raises(ValueError, match="chosen_tokens"):
        loss_and_derivative(1.0, loss="ipo")


def test_hinge_is_flat_beyond_its_margin() -> None:
    assert loss_and_derivative(10.1, loss="hinge") == (0.0, 0.0)
    assert loss_and_derivative(9.0, loss="hinge") == pytest.approx((0.1, -0.1))


def test_rewards_are_beta_times_the_log_ratio_without_gradient() -> None:
    chosen = torch.tensor([-5.0], requires_grad=True)
    result = pair_losses(chosen, torch.tensor([-7.0]), torch.tensor([-6.0]), torch.tensor([-6.5]), beta=0.2)
    assert result.chosen_rewards.item() == pytest.approx(0.2)
    assert result.rejected_rewards.item() == pytest.approx(-0.1)
    assert not result.chosen_rewards.requires_grad


def test_apo_zero_treats_chosen_and_rejected_independently() -> None:
    """σ(βw) above ½ and σ(βv) below it lower the loss; neither side affects the other's gradient."""
    sums = {name: torch.tensor([x], dtype=torch.float64, requires_grad=True) for name, x in (("w", 3.0), ("v", -2.0))}
    zero = torch.zeros(1, dtype=torch.float64)
    result = pair_losses(sums["w"], sums["v"], zero, zero, loss="apo_zero", beta=0.5)
    assert result.losses.item() == pytest.approx(1 - sigmoid(1.5) + sigmoid(-1.0))
    result.losses.sum().backward()
    assert sums["w"].grad.item() == pytest.approx(-0.5 * sigmoid(1.5) * sigmoid(-1.5))
    assert sums["v"].grad.item() == pytest.approx(0.5 * sigmoid(1.0) * sigmoid(-1.0))


def test_apo_down_lowers_the_chosen_and_the_rejected_further() -> None:
    sums = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    zero = torch.zeros(1, dtype=torch.float64)
    pair_losses(*sums, zero, zero, loss="apo_down", beta=0.4).losses.sum().backward()
    down, further = (x.grad.item() for x in sums)
    assert down == pytest.approx(0.0)  # at the reference the two gradients of the chosen response cancel
    assert further == pytest.approx(0.4 / 4)
    away = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (0.0, -4.0)]
    pair_losses(*away, zero, zero, loss="apo_down", beta=0.4).losses.sum().backward()
    assert away[0].grad.item() > 0  # once it is above the reference, its gradient lowers it


@pytest.mark.parametrize("loss", ["sigmoid_norm", "ipo", "simpo", "orpo"])
def test_a_loss_of_means_does_not_depend_on_length(loss: str) -> None:
    """Each response repeated twice: sums and token counts double, means stay."""
    given, counts = [torch.tensor([x]) for x in (-6.0, -9.0, -7.0, -8.0)], [torch.tensor([3]), torch.tensor([4])]
    losses = [
        pair_losses(
            *(k * x for x in given), loss=loss, beta=0.5, chosen_tokens=k * counts[0], rejected_tokens=k * counts[1]
        ).losses
        for k in (1, 2)
    ]
    assert torch.equal(*losses)


def test_simpo_has_a_margin_and_no_reference() -> None:
    options = {"loss": "simpo", "beta": 2.0, "chosen_tokens": torch.tensor([4]), "rejected_tokens": torch.tensor([5])}
    chosen, rejected = torch.tensor([-2.0]), torch.tensor([-5.0])  # means -0.5 and -1: a difference of 0.5
    at_margin = pair_losses(chosen, rejected, gamma=1.0, **options)
    assert at_margin.losses.item() == pytest.approx(math.log(2))
    assert pair_losses(chosen, rejected, gamma=0.5, **options).losses.item() == pytest.approx(-math.log(sigmoid(0.5)))
    assert (at_margin.chosen_rewards.item(), at_margin.rejected_rewards.item()) == pytest.approx((-1.0, -2.0))
    other = pair_losses(chosen, rejected, torch.tensor([9.0]), torch.tensor([7.0]), gamma=1.0, **options)
    assert other.losses.item() == at_margin.losses.item()


def test_orpo_is_the_log_odds_ratio() -> None:
    p, q, one = 0.8, 0.3, torch.tensor([1])
    options = {"loss": "orpo", "beta": 0.25, "chosen_tokens": one, "rejected_tokens": one}
    given = [torch.tensor([math.log(x)], dtype=torch.float64) for x in (p, q)]
    ratio = (p / (1 - p)) / (q / (1 - q))
    assert pair_losses(*given, **options).losses.item() == pytest.approx(-0.25 * math.log(ratio / (1 + ratio)))
    whole = pair_losses(*given, sft_weight=1.0, **options).losses.item()
    assert whole == pytest.approx(-math.log(p) - 0.25 * math.log(ratio / (1 + ratio)))


@pytest.mark.parametrize("certain", [0.0, -1e-9, -1e4])
def test_orpo_stays_finite_where_a_response_is_certain_or_impossible(certain: float) -> None:
    given = [torch.tensor([certain], requires_grad=True), torch.tensor([-1.0], requires_grad=True)]
    one = torch.tensor([1])
    losses = pair_losses(*given, loss="orpo", chosen_tokens=one, rejected_tokens=one).losses
    losses.sum().backward()
    assert all(torch.isfinite(x).all() for x in (losses, given[0].grad, given[1].grad))


def test_the_sft_term_is_the_mean_over_the_chosen_tokens() -> None:
    given = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (-6.0, -9.0, -7.0, -8.0)]
    plain = pair_losses(*given, **{k: v[:1] for k, v in LENGTHS.items()}).losses
    with_term = pair_losses(*given, sft_weight=0.5, **{k: v[:1] for k, v in LENGTHS.items()}).losses
    assert (with_term - plain).item() == pytest.approx(0.5 * 6 / 3)
    (with_term - plain).sum().backward()
    assert [x.grad.item() for x in given] == pytest.approx([-0.5 / 3, 0.0, 0.0, 0.0])


def test_the_sft_term_is_a_mean_per_response_or_over_all_tokens() -> None:
    """Summed over pairs and divided by their number; the long response weighs five times as much as the short one."""
    chosen, zero = torch.tensor([-1.0, -20.0]), torch.zeros(2)
    given, tokens = (chosen, zero, chosen, zero), torch.tensor([1, 5])
    options = {"chosen_tokens": tokens, "rejected_tokens": tokens, "sft_weight": 1.0}
    plain = pair_losses(*given).losses
    assert (pair_losses(*given, **options).losses - plain).mean().item() == pytest.approx((1 / 1 + 20 / 5) / 2)
    every = pair_losses(*given, **options, sft_tokens=tokens.float().mean()).losses
    assert (every - plain).mean().item() == pytest.approx((1 + 20) / (1 + 5))


@pytest.mark.parametrize("options", [{"loss": "sigmoid"}, {"loss": "apo_zero"}])
def test_a_missing_reference_is_an_error(options) -> None:
    with pytest.raises(ValueError, match="reference_chosen"):
        pair_losses(torch.zeros(1), torch.zeros(1), **options)


@pytest.mark.parametrize("options", [{"loss": "simpo"}, {"loss": "sigmoid_norm"}, {"sft_weight": 1.0}])
def test_the_error_names_missing_token_counts(options) -> None:
    with pytest.raises(ValueError, match="chosen_tokens"):
        pair_losses(*torch.zeros(4, 1), **options)


GRADIENTS = [
    *({"loss": loss} for loss in PREFERENCE_LOSSES),
    *({"loss": loss, "label_smoothing": 0.1} for loss in ("sigmoid", "sigmoid_norm", "robust", "simpo")),
    {"loss": "simpo", "gamma": 0.7},
    {"loss": "orpo", "sft_weight": 1.0},
    {"loss": "apo_down", "sft_weight": 0.3},
]


@pytest.mark.parametrize("options", GRADIENTS, ids=str)
def test_gradient(options) -> None:
    inputs = [(-1 - 3 * torch.rand(2, dtype=torch.float64)).requires_grad_() for _ in range(4)]
    assert torch.autograd.gradcheck(lambda *x: pair_losses(*x, beta=0.3, **options, **LENGTHS).losses, inputs)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "dpo"},
        {"label_smoothing": 0.5},
        {"label_smoothing": -0.1},
        {"loss": "hinge", "label_smoothing": 0.1},
        {"loss": "orpo", "label_smoothing": 0.1},
        {"loss": "apo_zero", "label_smoothing": 0.1},
        {"gamma": 0.5},
        {"loss": "simpo", "gamma": -0.5},
        {"loss": "simpo", "gamma": math.inf},
        {"sft_weight": -1.0},
        {"sft_weight": math.nan},
    ],
)
def test_invalid_options_are_user_errors(options) -> None:
    with pytest.raises(UserError):
        loss_and_derivative(1.0, **options)
