"""What is the loss? Pure functions of log-probabilities, scores and rewards; no model, no loop.

Tokens are flat, [M], and `leaf [M]` says to which of R responses each belongs. Losses are sums over tokens, responses
or pairs: the loop divides by the count of the whole optimiser step, so micro-batches and ranks change nothing.
"""

from zhenlong.objectives.advantage import generalized_advantage, group_advantages, terminal_rewards, varied, whiten
from zhenlong.objectives.kl import KLController, kl_estimate, kl_loss
from zhenlong.objectives.kto import Thumbs, kl_baseline, kto_loss, mismatched
from zhenlong.objectives.likelihood import negative_log_likelihood
from zhenlong.objectives.pairwise import bradley_terry, centring, pair_weights, strength_margin
from zhenlong.objectives.policy_gradient import entropy, policy_loss, sampled_entropy, value_loss
from zhenlong.objectives.preference import Preference, preference_loss
from zhenlong.objectives.reduce import UNITS, counts, mean_per_response, per_response, token_weights

__all__ = [
    "UNITS",
    "KLController",
    "Preference",
    "Thumbs",
    "bradley_terry",
    "centring",
    "counts",
    "entropy",
    "generalized_advantage",
    "group_advantages",
    "kl_baseline",
    "kl_estimate",
    "kl_loss",
    "kto_loss",
    "mean_per_response",
    "mismatched",
    "negative_log_likelihood",
    "pair_weights",
    "per_response",
    "policy_loss",
    "preference_loss",
    "sampled_entropy",
    "strength_margin",
    "terminal_rewards",
    "token_weights",
    "value_loss",
    "varied",
    "whiten",
]
