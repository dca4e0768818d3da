"""Bradley-Terry: closed forms, invariances, and that each ranking counts once."""

import math

import pytest
import torch

from zhenlong.objectives import bradley_terry_loss, pair_weights, reward_centering_loss, strength_margin
from zhenlong.records import Message, Ranking

FIRST, SECOND = torch.tensor([0]), torch.tensor([1])


def test_equal_scores_have_loss_log_two_and_accuracy_one_half() -> None:
    loss, metrics = bradley_terry_loss(torch.tensor([3.0, 3.0]), FIRST, SECOND)
    assert loss.item() == pytest.approx(math.log(2))
    assert metrics["accuracy"].item() == 0.5
    assert metrics["margin"].item() == 0.0


def test_loss_is_minus_log_of_the_bradley_terry_probability() -> None:
    scores = torch.tensor([1.2, -0.3])
    probability = math.exp(1.2) / (math.exp(1.2) + math.exp(-0.3))
    assert bradley_terry_loss(scores, FIRST, SECOND)[0].item() == pytest.approx(-math.log(probability), abs=1e-6)
    assert bradley_terry_loss(scores, SECOND, FIRST)[0].item() == pytest.approx(-math.log(1 - probability), abs=1e-6)


def test_the_loss_depends_on_differences_only_and_centering_on_the_level() -> None:
    scores = torch.randn(4, dtype=torch.float64)
    better, worse = torch.tensor([0, 2]), torch.tensor([1, 3])
    moved = bradley_terry_loss(scores + 5.0, better, worse)[0]
    torch.testing.assert_close(moved, bradley_terry_loss(scores, better, worse)[0])
    assert reward_centering_loss(scores + 5.0, better, worse) > reward_centering_loss(
        scores - scores.mean(), better, worse
    )
    opposite = torch.tensor([2.0, -2.0])
    assert reward_centering_loss(opposite, FIRST, SECOND).item() == 0.0


def test_the_smoothed_loss_is_minimal_at_probability_one_minus_epsilon() -> None:
    difference = torch.tensor(math.log(0.9 / 0.1), dtype=torch.float64, requires_grad=True)
    scores = torch.stack([difference, torch.zeros_like(difference)])
    bradley_terry_loss(scores, FIRST, SECOND, label_smoothing=0.1)[0].backward()
    assert abs(difference.grad.item()) < 1e-12


def test_a_margin_shifts_the_difference_but_not_the_accuracy() -> None:
    scores = torch.tensor([1.0, 0.0])
    loss, metrics = bradley_terry_loss(scores, FIRST, SECOND, margin=torch.tensor([1.0]))
    assert loss.item() == pytest.approx(math.log(2))
    assert metrics["accuracy"].item() == 1.0
    assert strength_margin(torch.tensor([1, 2, 3, 4])).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert strength_margin(torch.tensor([1, 2, 3, 4]), max_margin=3.0).tolist() == pytest.approx([0, 1, 2, 3])


def test_pair_weights_make_every_ranking_count_once() -> None:
    prompt = (Message("user", "?"),)
    four = Ranking(prompt, ("a", "b", "c", "d"), (1, 2, 3, 4)).pairs()
    tied = Ranking(prompt, ("a", "b", "c"), (1, 2, 2)).pairs()
    pairs = [(i, j, 0) for i, j in four] + [(i + 4, j + 4, 1) for i, j in tied]
    better, worse, ranking = (torch.tensor(x) for x in zip(*pairs, strict=True))
    weight = pair_weights(ranking)
    assert weight.tolist() == pytest.approx([1 / 6] * 6 + [1 / 2] * 2)
    loss, metrics = bradley_terry_loss(torch.zeros(7), better, worse, weight=weight)
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert metrics["accuracy"].item() == pytest.approx(1.0)


def test_gradient() -> None:
    scores = torch.randn(5, dtype=torch.float64, requires_grad=True)
    better, worse = torch.tensor([0, 0, 3]), torch.tensor([1, 2, 4])
    margin = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        total, _ = bradley_terry_loss(x, better, worse, weight=pair_weights(better), margin=margin, label_smoothing=0.1)
        return total + 0.01 * reward_centering_loss(x, better, worse)

    assert torch.autograd.gradcheck(loss, scores)
