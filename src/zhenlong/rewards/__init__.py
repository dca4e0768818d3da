"""What is a good answer worth? Rewards from a model, a verifier, a rule, a judge or a function, and combinations."""

from zhenlong.rewards.answer import Answer, Reward
from zhenlong.rewards.classifier import classifier_reward, load_classifier
from zhenlong.rewards.combine import checked, gated, llama2, mean, mean_minus_std, minimum, product, weighted, whiten
from zhenlong.rewards.from_model import load_reward_model, model_reward
from zhenlong.rewards.function import function_reward, load_function
from zhenlong.rewards.judge import judge_pair_reward, judge_reward, load_judge
from zhenlong.rewards.parts import Graded, grade
from zhenlong.rewards.rules import (
    group_reward,
    language_reward,
    overlong_reward,
    refusal_reward,
    refuses_reward,
    regex_reward,
    truncated_reward,
    verifier_reward,
)
from zhenlong.rewards.spec import reward_from

__all__ = [
    "Answer",
    "Graded",
    "Reward",
    "checked",
    "classifier_reward",
    "function_reward",
    "gated",
    "grade",
    "group_reward",
    "judge_pair_reward",
    "judge_reward",
    "language_reward",
    "llama2",
    "load_classifier",
    "load_function",
    "load_judge",
    "load_reward_model",
    "mean",
    "mean_minus_std",
    "minimum",
    "model_reward",
    "overlong_reward",
    "product",
    "refusal_reward",
    "refuses_reward",
    "regex_reward",
    "reward_from",
    "truncated_reward",
    "verifier_reward",
    "weighted",
    "whiten",
]
