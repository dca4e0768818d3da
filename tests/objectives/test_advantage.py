"""GAE against its definition and its limits; group advantages by prompt id."""

import pytest
import torch

from zhenlong.errors import UserError
from zhenlong.objectives import (
    GAESettings,
    generalized_advantage,
    group_advantages,
    has_nonzero_std,
    terminal_rewards,
    whiten,
)

RESPONSE_INDEX = torch.tensor([0, 0, 0, 1, 2, 2])
REWARDS = torch.tensor([0.1, -0.2, 1.0, 0.5, 0.3, -1.0], dtype=torch.float64)
VALUES = torch.tensor([0.4, 0.2, -0.3, 0.7, 0.9, 0.1], dtype=torch.float64)


def by_definition(rewards: list[float], values: list[float], last: float, gamma: float, lam: float) -> list[float]:
    """Eq. 16 of Schulman et al. (2016), as the double sum."""
    following = [*values[1:], last]
    deltas = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    steps = range(len(deltas))
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in steps if k >= t) for t in steps]


@pytest.mark.parametrize("bootstrap", [None, [0.0, 2.0, -1.0]])
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0)])
def test_gae_equals_its_definition_in_each_response(bootstrap, gamma, lam) -> None:
    last = None if bootstrap is None else torch.tensor(bootstrap)
    advantages, returns = generalized_advantage(
        REWARDS, VALUES, RESPONSE_INDEX, 3, bootstrap_values=last, settings=GAESettings(gamma, lam)
    )
    expected = []
    for r in range(3):
        mine = torch.eq(RESPONSE_INDEX, r)
        end = 0.0 if bootstrap is None else bootstrap[r]
        expected += by_definition(REWARDS[mine].tolist(), VALUES[mine].tolist(), end, gamma, lam)
    assert advantages.tolist() == pytest.approx(expected)
    torch.testing.assert_close(returns, advantages + VALUES)


def test_with_lambda_one_returns_are_discounted_future_rewards() -> None:
    _, returns = generalized_advantage(
        REWARDS, VALUES, RESPONSE_INDEX, 3, bootstrap_values=None, settings=GAESettings(0.5, 1.0)
    )
    assert returns.tolist() == pytest.approx([0.1 - 0.1 + 0.25, -0.2 + 0.5, 1.0, 0.5, 0.3 - 0.5, -1.0])


def test_with_a_perfect_critic_all_advantages_are_zero() -> None:
    rewards = terminal_rewards(torch.tensor([2.0, -1.0, 0.5]), RESPONSE_INDEX)
    values = torch.tensor([2.0, 2.0, 2.0, -1.0, 0.5, 0.5])
    advantages, _ = generalized_advantage(
        rewards, values, RESPONSE_INDEX, 3, bootstrap_values=None, settings=GAESettings()
    )
    assert advantages.tolist() == [0.0] * 6


def test_responses_are_independent_and_may_be_interleaved() -> None:
    alone, _ = generalized_advantage(
        REWARDS[:3], VALUES[:3], RESPONSE_INDEX[:3], 1, bootstrap_values=None, settings=GAESettings()
    )
    together, _ = generalized_advantage(
        REWARDS, VALUES, RESPONSE_INDEX, 3, bootstrap_values=None, settings=GAESettings()
    )
    torch.testing.assert_close(together[:3], alone)
    order = torch.tensor([3, 0, 4, 1, 2, 5])  # interleaved, each response's tokens still in order
    mixed, _ = generalized_advantage(
        REWARDS[order], VALUES[order], RESPONSE_INDEX[order], 3, bootstrap_values=None, settings=GAESettings()
    )
    torch.testing.assert_close(mixed, together[order])


def test_a_terminal_reward_is_on_the_last_token_only() -> None:
    assert terminal_rewards(torch.tensor([2.0, 3.0, 4.0]), RESPONSE_INDEX).tolist() == [0, 0, 2.0, 3.0, 0, 4.0]
    with pytest.raises(ValueError, match="response 1"):
        terminal_rewards(torch.ones(3), torch.tensor([0, 2]))


def test_whitening_uses_masked_tokens_of_all_ranks() -> None:
    values = torch.randn(50, dtype=torch.float64) * 3 + 2
    keep = torch.arange(50) % 3 > 0
    white = whiten(values, mask=keep)
    assert white[keep].mean().item() == pytest.approx(0.0, abs=1e-9)
    assert white[keep].var(unbiased=False).item() == pytest.approx(1.0, abs=1e-6)
    assert not white[~keep].any()
    halves = values[:20], values[20:]
    seen: list[list[torch.Tensor]] = [[], []]
    for rank in (0, 1):  # the sums that each rank contributes, in order
        whiten(halves[rank], all_reduce=lambda x, rank=rank: seen[rank].append(x) or x)
    counts_and_sums = seen[0][0] + seen[1][0]
    mean = counts_and_sums[1] / counts_and_sums[0]
    squares = ((values - mean) ** 2).sum()
    whole = whiten(values)
    for half, expected in zip(halves, (whole[:20], whole[20:]), strict=True):
        answers = iter([counts_and_sums, squares])
        torch.testing.assert_close(whiten(half, all_reduce=lambda _, a=answers: next(a)), expected)


def test_whitening_can_keep_the_mean_and_never_gives_nan() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    assert whiten(values, shift_mean=False).mean().item() == pytest.approx(3.0)
    assert whiten(torch.tensor([5.0])).tolist() == [0.0]
    assert whiten(torch.full((4,), 5.0)).tolist() == [0.0] * 4
    assert whiten(torch.full((4,), 5.0), shift_mean=False).tolist() == [5.0] * 4


GROUP_IDS = torch.tensor([7, 3, 7, 3, 7, 9])  # prompts 7 (three samples), 3 (two), 9 (one), out of order
SCORES = torch.tensor([1.0, 5.0, 2.0, 5.0, 6.0, 4.0])


def test_groups_are_identified_by_prompt_and_groups_of_equal_rewards_get_zero() -> None:
    plain = group_advantages(SCORES, GROUP_IDS, scale_rewards="none")
    assert plain.tolist() == [-2.0, 0.0, -1.0, 0.0, 3.0, 0.0]
    scaled = group_advantages(SCORES, GROUP_IDS)
    std = torch.tensor([1.0, 2.0, 6.0]).std().item()
    assert scaled.tolist() == pytest.approx([x / (std + 1e-4) for x in (-2.0, 0.0, -1.0, 0.0, 3.0, 0.0)])
    assert has_nonzero_std(SCORES, GROUP_IDS).tolist() == [True, False, True, False, True, False]


def test_leave_one_out_compares_with_the_others() -> None:
    advantages = group_advantages(SCORES, GROUP_IDS, advantage_baseline="leave_one_out", scale_rewards="none")
    assert advantages.tolist() == pytest.approx([1 - 4, 0.0, 2 - 3.5, 0.0, 6 - 1.5, 0.0])


def test_equal_rewards_give_exactly_zero_despite_rounding() -> None:
    rewards = torch.full((7,), 0.1)
    for baseline in ("mean", "leave_one_out"):
        for scale in ("group", "batch", "whiten", "none"):
            same = group_advantages(
                rewards, torch.zeros(7, dtype=torch.long), advantage_baseline=baseline, scale_rewards=scale
            )
            assert same.tolist() == [0.0] * 7
    assert group_advantages(torch.tensor([3.0]), torch.tensor([0]), scale_rewards="batch").tolist() == [0.0]


def test_group_advantages_sum_to_zero_and_are_invariant_to_shift_and_scale() -> None:
    rewards, group = torch.randn(12, dtype=torch.float64), torch.arange(12) % 3
    advantages = group_advantages(rewards, group)
    assert torch.zeros(3, dtype=torch.float64).index_add(0, group, advantages).abs().max() < 1e-9
    torch.testing.assert_close(group_advantages(100 * rewards + group, group), advantages, rtol=1e-3, atol=1e-3)


def test_without_a_baseline_advantages_are_the_rewards() -> None:
    assert (
        group_advantages(SCORES, GROUP_IDS, advantage_baseline="none", scale_rewards="none").tolist() == SCORES.tolist()
    )
    batch = group_advantages(SCORES, GROUP_IDS, advantage_baseline="none", scale_rewards="batch")
    assert batch.tolist() == pytest.approx((SCORES / (SCORES.std() + 1e-4)).tolist())


def test_invalid_options_are_user_errors() -> None:
    with pytest.raises(UserError, match="leave_one_out"):
        group_advantages(SCORES, GROUP_IDS, advantage_baseline="median")
    with pytest.raises(UserError, match="batch"):
        group_advantages(SCORES, GROUP_IDS, scale_rewards="std")


def test_whitening_ignores_nan_outside_of_the_mask() -> None:
    mask = torch.tensor([True, True, False])
    for shift_mean in (True, False):
        whitened = whiten(torch.tensor([1.0, 3.0, float("nan")]), mask=mask, shift_mean=shift_mean)
        assert torch.equal(whitened[:2], whiten(torch.tensor([1.0, 3.0]), shift_mean=shift_mean))
        assert whitened[2].item() == 0.0


def test_whitened_advantages_have_mean_0_and_variance_1_over_the_batch() -> None:
    plain = group_advantages(SCORES, GROUP_IDS, advantage_baseline="none", scale_rewards="whiten")
    assert plain.tolist() == pytest.approx(((SCORES - SCORES.mean()) / (SCORES.std() + 1e-4)).tolist())
    centered = group_advantages(SCORES, GROUP_IDS, scale_rewards="none")
    whitened = group_advantages(SCORES, GROUP_IDS, scale_rewards="whiten")
    assert whitened.tolist() == pytest.approx((centered / (centered.std() + 1e-4)).tolist())
