"""How good is a response? Rewards from a model, a verifier, a rule, a judge or a function, and combinations."""

from zhenlong.rewards.build import build_reward_fn
from zhenlong.rewards.classifier import classifier_reward, load_classifier_reward
from zhenlong.rewards.combine import (
    gated_reward,
    mean_minus_std,
    mean_of_rewards,
    minimum,
    product,
    safety_gate,
    validated_reward,
    weighted_sum,
    whitened_reward,
)
from zhenlong.rewards.from_model import load_model_reward, model_reward
from zhenlong.rewards.function import function_reward, load_reward_function
from zhenlong.rewards.judge import judge_reward, load_judge_reward, pairwise_judge_reward
from zhenlong.rewards.reward_components import RewardBreakdown, compute_rewards
from zhenlong.rewards.rules import (
    correct_refusal_reward,
    group_reward,
    is_refusal_reward,
    language_reward,
    overlong_penalty,
    regex_reward,
    truncated_reward,
    verifier_reward,
)
from zhenlong.rewards.task_response import RewardFailed, RewardFn, TaskResponse
from zhenlong.rewards.tolerant import tolerant_reward

__all__ = [
    "RewardBreakdown",
    "RewardFailed",
    "RewardFn",
    "TaskResponse",
    "build_reward_fn",
    "classifier_reward",
    "compute_rewards",
    "correct_refusal_reward",
    "function_reward",
    "gated_reward",
    "group_reward",
    "is_refusal_reward",
    "judge_reward",
    "language_reward",
    "load_classifier_reward",
    "load_judge_reward",
    "load_model_reward",
    "load_reward_function",
    "mean_minus_std",
    "mean_of_rewards",
    "minimum",
    "model_reward",
    "overlong_penalty",
    "pairwise_judge_reward",
    "product",
    "regex_reward",
    "safety_gate",
    "tolerant_reward",
    "truncated_reward",
    "validated_reward",
    "verifier_reward",
    "weighted_sum",
    "whitened_reward",
]
