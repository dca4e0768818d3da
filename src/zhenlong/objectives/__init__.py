"""Losses as pure functions of log-probabilities, scores and rewards; no model, no loop.

Tokens are flat, [M], and `response_index [M]` gives the response (of R) of each token. Losses are sums over tokens,
responses or pairs. The loop divides by the count of the whole optimiser step, so splitting the step into micro-batches
or over ranks does not change the gradient.
"""

from zhenlong.objectives.advantage import (
    GAESettings,
    generalized_advantage,
    group_advantages,
    has_nonzero_std,
    terminal_rewards,
    whiten,
)
from zhenlong.objectives.kl import KLController, kl_estimate, kl_loss
from zhenlong.objectives.kto import KTOLosses, KTOSettings, kl_baseline, kto_loss, mismatched
from zhenlong.objectives.likelihood import negative_log_likelihood
from zhenlong.objectives.pairwise import bradley_terry_loss, pair_weights, reward_centering_loss, strength_margin
from zhenlong.objectives.policy_gradient import RatioSettings, entropy, policy_loss, sampled_entropy, value_loss
from zhenlong.objectives.preference import PreferenceLogProbs, PreferenceLosses, PreferenceSettings, preference_loss
from zhenlong.objectives.reduce import (
    AGGREGATION_UNITS,
    mean_per_response,
    sum_per_response,
    token_weights,
    tokens_per_response,
)

__all__ = [
    "AGGREGATION_UNITS",
    "GAESettings",
    "KLController",
    "KTOLosses",
    "KTOSettings",
    "PreferenceLogProbs",
    "PreferenceLosses",
    "PreferenceSettings",
    "RatioSettings",
    "bradley_terry_loss",
    "entropy",
    "generalized_advantage",
    "group_advantages",
    "has_nonzero_std",
    "kl_baseline",
    "kl_estimate",
    "kl_loss",
    "kto_loss",
    "mean_per_response",
    "mismatched",
    "negative_log_likelihood",
    "pair_weights",
    "policy_loss",
    "preference_loss",
    "reward_centering_loss",
    "sampled_entropy",
    "strength_margin",
    "sum_per_response",
    "terminal_rewards",
    "token_weights",
    "tokens_per_response",
    "value_loss",
    "whiten",
]
