"""From what a user writes to a reward: the command line's and YAML's `reward` option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from zhenlong.errors import UserError
from zhenlong.rewards.answer import Reward
from zhenlong.rewards.classifier import load_classifier
from zhenlong.rewards.combine import checked, gated, llama2, mean, mean_minus_std, minimum, product, weighted, whiten
from zhenlong.rewards.from_model import RewardModel, model_reward, open_reward_model, require_one_tokenizer
from zhenlong.rewards.function import function_reward, load_function
from zhenlong.rewards.grammar import NAMES, Call, Name, Part, Product, Sum, parse
from zhenlong.rewards.judge import load_judge
from zhenlong.rewards.parts import Composite
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

ENSEMBLES: Final = ("mean", "min", "mean_minus_std", "llama2")


def reward_from(
    spec: str | Reward | Sequence[str | Reward],
    *,
    device: str = "auto",
    dtype: str = "float32",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
) -> Composite:
    """The reward that `spec` describes: text (see `grammar`), a reward itself, or a list of either, which is summed.

    Every part is `checked`, and named in what `graded` returns. The other arguments are those of `load_reward_model`.
    Raises UserError for text that makes no sense, before anything is loaded, for a model, file or function that is not
    there, and for an ensemble of reward models with different tokenizers.
    """
    parts = [spec] if isinstance(spec, str) or callable(spec) else list(spec)
    if not parts:
        raise UserError(f"reward: expected at least one of {NAMES}, got none")
    parsed = [parse(part) if isinstance(part, str) else part for part in parts]
    builder = _Builder(device, dtype, chat_template, tokens_per_microbatch)
    rewards = [builder.built(part) for part in parsed]
    whole = rewards[0] if len(rewards) == 1 else weighted([(1.0, reward) for reward in rewards])
    builder.composite.reward = checked(whole, " + ".join(part if isinstance(part, str) else "..." for part in parts))
    return builder.composite


@dataclass
class _Builder:
    """Builds the parts of one reward; a model that is named twice is loaded once."""

    device: str
    dtype: str
    chat_template: str
    tokens_per_microbatch: int
    composite: Composite = field(default_factory=Composite)
    models: dict[str, RewardModel] = field(default_factory=dict)

    def built(self, part: Part | Reward) -> Reward:
        if isinstance(part, Sum):
            return weighted([(weight, self.built(inner)) for weight, inner in part.terms])
        if isinstance(part, Product):
            return product([self.built(inner) for inner in part.factors])
        if isinstance(part, Name):
            return self.composite.named(self.single(part.text), part.text)
        if isinstance(part, Call):
            return self.call(part)
        return self.composite.named(part, getattr(part, "__name__", type(part).__name__))

    def call(self, part: Call) -> Reward:
        if part.function == "overlong":
            longest, cache = part.numbers
            return self.composite.named(overlong_reward(longest, cache), f"overlong({longest:g}, {cache:g})")
        rewards = [self.built(inner) for inner in part.parts]
        if part.function in ENSEMBLES:
            names = [one.text.removeprefix("model:") for one in part.parts if isinstance(one, Name)]
            require_one_tokenizer({name: self.models[name] for name in names if name in self.models})
        if part.function == "gate":
            return gated(rewards[0], rewards[1], part.numbers[0])
        if part.function == "llama2":
            return llama2(rewards[0], rewards[1], rewards[2] if len(rewards) > 2 else None, part.numbers[0])
        if part.function == "mean_minus_std":
            return mean_minus_std(rewards, part.numbers[0])
        return {"mean": mean, "min": minimum, "whiten": lambda given: whiten(given[0])}[part.function](rewards)

    def single(self, name: str) -> Reward:
        """The reward of a name."""
        kind, _, rest = name.partition(":")
        if name in RULES:
            return RULES[name]()
        if kind in WITH_TEXT:
            return WITH_TEXT[kind](rest)
        if kind == "model":
            return self.model(rest)
        if kind in ("classifier", "probability"):
            return load_classifier(rest, probability=kind == "probability", device=self.device, dtype=self.dtype)
        if kind in ("judge", "judge_pair"):
            tell = partial(self.composite.tell, f"{name}: unread")
            return load_judge(rest, pairwise=kind == "judge_pair", tell=tell, device=self.device, dtype=self.dtype)
        return function_reward(load_function(name), name)

    def model(self, name: str) -> Reward:
        if name not in self.models:
            self.models[name] = open_reward_model(
                name, device=self.device, dtype=self.dtype, chat_template=self.chat_template
            )
        return model_reward(*self.models[name], tokens_per_microbatch=self.tokens_per_microbatch)


RULES: Final[dict[str, Callable[[], Reward]]] = {
    "verifier": verifier_reward,
    "truncated": truncated_reward,
    "refuses": refuses_reward,
}
WITH_TEXT: Final[dict[str, Callable[[str], Reward]]] = {
    "regex": regex_reward,
    "language": language_reward,
    "group": group_reward,
    "refusal": refusal_reward,
}
