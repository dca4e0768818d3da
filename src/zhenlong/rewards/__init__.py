"""What is a good answer worth? Rewards from a model, a verifier, a rule or a function, and combinations of them."""

from zhenlong.rewards.answer import Answer, Reward
from zhenlong.rewards.combine import checked, gated, weighted
from zhenlong.rewards.from_model import load_reward_model, model_reward
from zhenlong.rewards.function import function_reward, load_function
from zhenlong.rewards.rules import regex_reward, truncated_reward, verifier_reward
from zhenlong.rewards.spec import reward_from

__all__ = [
    "Answer",
    "Reward",
    "checked",
    "function_reward",
    "gated",
    "load_function",
    "load_reward_model",
    "model_reward",
    "regex_reward",
    "reward_from",
    "truncated_reward",
    "verifier_reward",
    "weighted",
]
