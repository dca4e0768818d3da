"""Reductions per response, and that splitting into micro-batches does not change the loss."""

import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.objectives import (
    AGGREGATION_UNITS,
    mean_per_response,
    negative_log_likelihood,
    sum_per_response,
    token_weights,
    tokens_per_response,
)

RESPONSE_INDEX = torch.tensor([0, 0, 2, 2, 2, 3])  # response 1 has no tokens


def test_sums_counts_and_means_per_response() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert sum_per_response(values, RESPONSE_INDEX, 4).tolist() == [3.0, 0.0, 12.0, 6.0]
    assert tokens_per_response(RESPONSE_INDEX, 4).tolist() == [2, 0, 3, 1]
    assert mean_per_response(values, RESPONSE_INDEX, 4).tolist() == [1.5, 0.0, 4.0, 6.0]


def test_the_order_of_tokens_does_not_matter() -> None:
    values, order = torch.randn(6, dtype=torch.float64), torch.randperm(6)
    shuffled = sum_per_response(values[order], RESPONSE_INDEX[order], 4)
    torch.testing.assert_close(shuffled, sum_per_response(values, RESPONSE_INDEX, 4))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token", (1 + 2 + 3 + 4 + 5 + 6) / 6),
        ("sequence", (1.5 + 4.0 + 6.0) / 3),
        ("constant", (3 + 12 + 6) / 8 / 3),
    ],
)
@pytest.mark.parametrize("cut", [[[0, 1, 2]], [[0], [1, 2]], [[2], [0], [1]]])
def test_the_weighted_sum_over_the_step_is_the_mean_for_any_micro_batches(mode, expected, cut) -> None:
    losses = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0]), torch.tensor([6.0])]
    total = 0.0
    for responses in cut:
        leaf = torch.tensor([i for i, r in enumerate(responses) for _ in losses[r]])
        weights = token_weights(leaf, len(responses), mode, max_tokens=8)
        total += float((weights * torch.cat([losses[r] for r in responses])).sum())
    count = {"tokens": 6, "responses": 3}[AGGREGATION_UNITS[mode]]
    assert total / count == pytest.approx(expected)


def test_an_unknown_aggregation_and_missing_max_tokens_are_user_errors() -> None:
    with pytest.raises(UserError, match="token, sequence, constant"):
        token_weights(RESPONSE_INDEX, 4, "batch")
    with pytest.raises(UserError, match="max_tokens"):
        token_weights(RESPONSE_INDEX, 4, "constant")


def test_the_loss_of_a_uniform_model_is_log_vocabulary_per_token() -> None:
    log_probs = torch.full((7,), -torch.log(torch.tensor(50.0)))
    assert negative_log_likelihood(log_probs).item() / 7 == pytest.approx(3.912023, abs=1e-5)
    weights = torch.tensor([1.0, 0, 0, 0, 0, 0, 0.5])
    assert negative_log_likelihood(log_probs, weights).item() == pytest.approx(1.5 * 3.912023, abs=1e-5)
