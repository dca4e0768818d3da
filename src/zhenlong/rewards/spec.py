"""From what a user writes to a reward: the command line's and YAML's `reward` option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from zhenlong.errors import UserError
from zhenlong.rewards.answer import Reward
from zhenlong.rewards.combine import checked, gated, weighted
from zhenlong.rewards.from_model import load_reward_model
from zhenlong.rewards.function import function_reward, load_function
from zhenlong.rewards.grammar import NAMES, Gate, Name, Part, Sum, parse
from zhenlong.rewards.rules import regex_reward, truncated_reward, verifier_reward


def reward_from(
    spec: str | Reward | Sequence[str | Reward],
    *,
    device: str = "auto",
    dtype: str = "float32",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
) -> Reward:
    """The reward that `spec` describes: text (see `grammar`), a reward itself, or a list of either, which is summed.

    Every part is `checked`. The other arguments are those of `load_reward_model`. Raises UserError for text that makes
    no sense, before anything is loaded, and for a model, file or function that is not there.
    """
    parts = [spec] if isinstance(spec, str) or callable(spec) else list(spec)
    if not parts:
        raise UserError(f"reward: expected at least one of {NAMES}, got none")
    parsed = [parse(part) if isinstance(part, str) else part for part in parts]
    load = partial(
        load_reward_model,
        device=device,
        dtype=dtype,
        chat_template=chat_template,
        tokens_per_microbatch=tokens_per_microbatch,
    )
    rewards = [_built(part, load) for part in parsed]
    return rewards[0] if len(rewards) == 1 else weighted([(1.0, reward) for reward in rewards])


def _built(part: Part | Reward, load: Callable[[str], Reward]) -> Reward:
    if isinstance(part, Sum):
        return weighted([(weight, _built(inner, load)) for weight, inner in part.terms])
    if isinstance(part, Gate):
        return gated(_built(part.gate, load), _built(part.reward, load), part.floor)
    if isinstance(part, Name):
        return checked(_named(part.text, load), part.text)
    return checked(part, getattr(part, "__name__", type(part).__name__))


def _named(name: str, load: Callable[[str], Reward]) -> Reward:
    kind, _, rest = name.partition(":")
    if name == "verifier":
        return verifier_reward()
    if name == "truncated":
        return truncated_reward()
    if kind == "model":
        return load(rest)
    if kind == "regex":
        return regex_reward(rest)
    return function_reward(load_function(name), name)
