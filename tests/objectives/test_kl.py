"""KL estimators and losses against exact values, enumerating all outcomes of small categorical distributions."""

import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.objectives import KLController, kl_estimate, kl_loss

POLICY = torch.tensor([0.5, -1.0, 0.3, 0.1], dtype=torch.float64)
REFERENCE = torch.tensor([-0.4, 0.2, 0.9, -0.6], dtype=torch.float64).log_softmax(0)


def exact_kl(logits: torch.Tensor) -> torch.Tensor:
    log_p = logits.log_softmax(0)
    return (log_p.exp() * (log_p - REFERENCE)).sum()


def expected(per_token: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """E_π[per_token], with the sampling probabilities treated as constants (no gradient)."""
    return (logits.detach().softmax(0) * per_token).sum()


def gradient(loss, logits: torch.Tensor = POLICY) -> torch.Tensor:
    x = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


def test_the_values_of_k1_and_k3_are_unbiased_and_that_of_k2_is_not() -> None:
    log_p, kl = POLICY.log_softmax(0), exact_kl(POLICY).item()
    assert expected(kl_estimate(log_p, REFERENCE, "k1"), POLICY).item() == pytest.approx(kl)
    assert expected(kl_estimate(log_p, REFERENCE, "k3"), POLICY).item() == pytest.approx(kl)
    assert abs(expected(kl_estimate(log_p, REFERENCE, "k2"), POLICY).item() - kl) > 0.01
    assert (kl_estimate(log_p, REFERENCE, "k3") >= 0).all()


def test_sampled_means_converge_to_the_exact_kl() -> None:
    generator = torch.Generator().manual_seed(0)
    log_p = POLICY.log_softmax(0)
    tokens = torch.multinomial(log_p.exp(), 200_000, replacement=True, generator=generator)
    for kind in ("k1", "k3"):
        estimates = kl_estimate(log_p[tokens], REFERENCE[tokens], kind)
        error = (estimates.std() / len(tokens) ** 0.5).item()
        assert abs(estimates.mean().item() - exact_kl(POLICY).item()) < 5 * error


@pytest.mark.parametrize("kind", ["k2", "k3+"])
def test_expected_gradient_of_the_losses_is_that_of_the_kl(kind: str) -> None:
    mine = gradient(lambda x: expected(kl_loss(x.log_softmax(0), REFERENCE, kind), x))
    torch.testing.assert_close(mine, gradient(exact_kl))


def test_k3_plus_has_the_value_of_k3() -> None:
    log_p = POLICY.log_softmax(0)
    torch.testing.assert_close(kl_loss(log_p, REFERENCE, "k3+"), kl_estimate(log_p, REFERENCE, "k3"))


def test_the_gradient_of_k1_is_zero_and_that_of_k3_is_of_the_reverse_kl() -> None:
    of_k1 = gradient(lambda x: expected(kl_estimate(x.log_softmax(0), REFERENCE, "k1"), x))
    assert of_k1.abs().max() < 1e-12
    of_k3 = gradient(lambda x: expected(kl_estimate(x.log_softmax(0), REFERENCE, "k3"), x))
    other = gradient(lambda x: (REFERENCE.exp() * (REFERENCE - x.log_softmax(0))).sum())
    torch.testing.assert_close(of_k3, other)
    assert (of_k3 - gradient(exact_kl)).abs().max() > 0.01


def test_no_penalty_and_no_gradient_at_the_reference() -> None:
    for kind in ("k2", "k3+"):
        x = REFERENCE.clone().requires_grad_()
        loss = kl_loss(x, REFERENCE, kind)
        loss.sum().backward()
        assert loss.tolist() == [0.0] * 4
        assert x.grad.tolist() == [0.0] * 4


def test_unknown_estimators_are_user_errors() -> None:
    with pytest.raises(UserError, match="wrong gradient"):
        kl_loss(POLICY, REFERENCE, "k3")
    with pytest.raises(UserError, match="k1, k2, k3"):
        kl_estimate(POLICY, REFERENCE, "kl")


def test_controller_moves_towards_the_target_by_at_most_a_fifth_per_horizon() -> None:
    controller = KLController(0.1, target=6.0, horizon=1000)
    controller.update(6.0, 1000)
    assert controller.coefficient == pytest.approx(0.1)
    controller.update(6.6, 500)
    assert controller.coefficient == pytest.approx(0.1 * (1 + 0.1 * 0.5))
    high, low = KLController(0.1, 6.0, 1000), KLController(0.1, 6.0, 1000)
    high.update(1e9, 1000), low.update(0.0, 1000)
    assert (high.coefficient, low.coefficient) == (pytest.approx(0.12), pytest.approx(0.08))


def test_controller_is_fixed_without_a_target_and_restores_its_state() -> None:
    fixed = KLController(0.05)
    fixed.update(100.0, 10**6)
    assert fixed.coefficient == 0.05
    one, two = KLController(0.1, 6.0), KLController(0.1, 6.0)
    one.update(9.0, 512)
    two.load_state_dict(one.state_dict())
    one.update(2.0, 512), two.update(2.0, 512)
    assert one.coefficient == two.coefficient
    with pytest.raises(UserError, match="target > 0"):
        KLController(0.1, target=0.0)


def test_k3_of_an_improbable_token_is_finite() -> None:
    far = kl_estimate(torch.tensor([-200.0, -10.0]), torch.tensor([-0.1, -0.1]), "k3")
    assert torch.isfinite(far).all()
    assert far[1].item() == pytest.approx(torch.tensor(9.9).exp().item() - 1 - 9.9, rel=1e-5)  # unclamped
