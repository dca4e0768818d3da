"""Build a reward function from the `reward` option of the command line, YAML or Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zhenlong.errors import UserError
from zhenlong.inference.cache import IN_MEMORY
from zhenlong.rewards.abstention import neutral_abstentions
from zhenlong.rewards.classifier import load_classifier_reward
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
from zhenlong.rewards.from_model import LoadedRewardModel, load_reward_model, model_reward, require_same_tokenizer
from zhenlong.rewards.function import function_reward, load_reward_function
from zhenlong.rewards.grammar import (
    NAMES_USAGE,
    Expression,
    FunctionCall,
    Product,
    RewardName,
    WeightedSum,
    parse_reward,
)
from zhenlong.rewards.judge import load_judge_reward
from zhenlong.rewards.options import JudgeOptions, RewardOptions
from zhenlong.rewards.reward_components import CompositeReward
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
from zhenlong.rewards.task_response import RewardFn
from zhenlong.rewards.toxicity import toxicity_reward

SAME_TOKENIZER_FUNCTIONS: Final = ("mean", "min", "mean_minus_std", "safety_gate")


def build_reward_fn(
    spec: str | RewardFn | Sequence[str | RewardFn],
    *,
    device: str = "auto",
    dtype: str = "float32",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
    judge_cache: str | Path = IN_MEMORY,
    options: RewardOptions | None = None,
) -> CompositeReward:
    """The reward of `spec`: text (see `grammar`), a reward function, or a list of either, which is summed.

    Every component is validated and appears in `breakdown`. The other arguments are those of `load_model_reward`;
    `judge_cache` is the file that caches the judges' responses, `options` says how models in the reward are asked.
    Raises UserError for invalid text, before anything is loaded, for a missing model, file or function, and for an
    ensemble of reward models with different tokenizers.
    """
    specs = [spec] if isinstance(spec, str) or callable(spec) else list(spec)
    if not specs:
        raise UserError(f"reward: expected at least one of {NAMES_USAGE}, got none")
    parsed = [parse_reward(part) if isinstance(part, str) else part for part in specs]
    builder = _RewardBuilder(
        device, dtype, chat_template, tokens_per_microbatch, judge_cache, options or RewardOptions()
    )
    reward_fns = [builder.build(part) for part in parsed]
    combined = reward_fns[0] if len(reward_fns) == 1 else weighted_sum([(1.0, reward) for reward in reward_fns])
    builder.composite.reward_fn = validated_reward(
        neutral_abstentions(combined), " + ".join(part if isinstance(part, str) else "..." for part in specs)
    )
    return builder.composite


@dataclass
class _RewardBuilder:
    """Builds the components of one reward; a model that is named twice is loaded once."""

    device: str
    dtype: str
    chat_template: str
    tokens_per_microbatch: int
    judge_cache: str | Path
    options: RewardOptions
    composite: CompositeReward = field(default_factory=CompositeReward)
    loaded_models: dict[str, LoadedRewardModel] = field(default_factory=dict)

    def build(self, expression: Expression | RewardFn) -> RewardFn:
        if isinstance(expression, WeightedSum):
            return weighted_sum([(weight, self.build(inner)) for weight, inner in expression.terms])
        if isinstance(expression, Product):
            return product([self.build(inner) for inner in expression.factors])
        if isinstance(expression, RewardName):
            return self.composite.component(self.build_named(expression.text), expression.text)
        if isinstance(expression, FunctionCall):
            return self.build_call(expression)
        return self.composite.component(expression, getattr(expression, "__name__", type(expression).__name__))

    def build_call(self, call: FunctionCall) -> RewardFn:
        if call.function == "overlong_penalty":
            max_tokens, cache = call.numbers
            return self.composite.component(
                overlong_penalty(max_tokens, cache), f"overlong_penalty({max_tokens:g}, {cache:g})"
            )
        reward_fns = [self.build(inner) for inner in call.arguments]
        if call.function in SAME_TOKENIZER_FUNCTIONS:
            names = [one.text.removeprefix("model:") for one in call.arguments if isinstance(one, RewardName)]
            require_same_tokenizer({name: self.loaded_models[name] for name in names if name in self.loaded_models})
        if call.function == "gate":
            return gated_reward(reward_fns[0], reward_fns[1], call.numbers[0])
        if call.function == "safety_gate":
            return safety_gate(
                reward_fns[0], reward_fns[1], reward_fns[2] if len(reward_fns) > 2 else None, call.numbers[0]
            )
        if call.function == "mean_minus_std":
            return mean_minus_std(reward_fns, call.numbers[0])
        return {"mean": mean_of_rewards, "min": minimum, "whiten": lambda given: whitened_reward(given[0])}[
            call.function
        ](reward_fns)

    def build_named(self, name: str) -> RewardFn:
        """The reward with this name."""
        kind, _, argument = name.partition(":")
        if name == "toxicity":
            return toxicity_reward(self.options.toxicity_classifier)
        if name in RULE_REWARDS:
            return RULE_REWARDS[name]()
        if kind in RULE_REWARDS_WITH_ARGUMENT:
            return RULE_REWARDS_WITH_ARGUMENT[kind](argument)
        if kind == "model":
            return self.build_model(argument)
        if kind in ("classifier", "classifier_probability"):
            return load_classifier_reward(
                argument, probability=kind == "classifier_probability", device=self.device, dtype=self.dtype
            )
        if kind in ("judge", "pairwise_judge"):
            return load_judge_reward(
                argument,
                pairwise=kind == "pairwise_judge",
                record=lambda what, responses, values: self.composite.record(f"{name}: {what}", responses, values),
                options=JudgeOptions(self.options.judge_max_tokens, self.judge_cache, self.device, self.dtype),
            )
        return function_reward(load_reward_function(name), name)

    def build_model(self, name: str) -> RewardFn:
        if name not in self.loaded_models:
            self.loaded_models[name] = load_reward_model(
                name, device=self.device, dtype=self.dtype, chat_template=self.chat_template
            )
        return model_reward(*self.loaded_models[name], tokens_per_microbatch=self.tokens_per_microbatch)


RULE_REWARDS: Final[dict[str, Callable[[], RewardFn]]] = {
    "verifier": verifier_reward,
    "truncated": truncated_reward,
    "is_refusal": is_refusal_reward,
}
RULE_REWARDS_WITH_ARGUMENT: Final[dict[str, Callable[[str], RewardFn]]] = {
    "regex": regex_reward,
    "language": language_reward,
    "group": group_reward,
    "correct_refusal": correct_refusal_reward,
}
