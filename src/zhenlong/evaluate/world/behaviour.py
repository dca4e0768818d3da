"""Behaviour of a model in the built-in world: one row per held-out prompt, and a summary over the rows.

Besides the reward used in training (proxy) the world provides the true reward, which training never sees (gold).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.sampled_responses import SAMPLED, SampledResponses, sample_responses
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval, paired_difference
from zhenlong.forest import make_tree
from zhenlong.forest.scoring import DEFAULT_TOKENS_PER_MICROBATCH, log_prob_sums
from zhenlong.loop.atomic import to_jsonable, write_text
from zhenlong.models.model_argument import ModelLike, load_if_named, require_same_vocabulary
from zhenlong.records import Task
from zhenlong.rewards import RewardFn
from zhenlong.sampling import Completion, SamplingParams
from zhenlong.world import World


@dataclass(frozen=True)
class WorldResponse:
    """One prompt, the model's response and its measures. None: not applicable or not requested."""

    prompt: tuple[dict[str, Any], ...]  # messages
    response: str
    gold: float
    proxy: float | None
    correct: float | None
    format: float | None
    harmful: bool
    lookalike: bool
    refused: bool
    kl: float | None  # nats, of the whole response
    tokens: int
    truncated: bool
    family: str


def evaluate_behaviour(
    model: ModelLike,
    tasks: Sequence[Task],
    *,
    reference: ModelLike | None = None,
    reward: RewardFn | None = None,
    sampling: SamplingParams = SAMPLED,
    chat_template: str = "auto",
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
) -> list[WorldResponse]:
    """Sample one response to every task of the world and measure it.

    `reference` is the model for the `kl` measure (the SFT model), `reward` the reward used in training. Raises
    `UserError` if the reference has another vocabulary, or the reward is not finite.
    """
    network, tokenizer = load_if_named(model)
    found = sample_responses(network, tokenizer, tasks, sampling, chat_template=chat_template)
    completions = [several[0] for several in found.completions]
    proxies: Sequence[float | None] = [None] * len(tasks) if reward is None else reward(found.answers)
    kl: Sequence[float | None] = [None] * len(tasks)
    if reference is not None:
        kl = kl_to_reference((network, tokenizer), reference, found, tokens_per_microbatch)
    return [_world_response(*parts) for parts in zip(tasks, completions, proxies, kl, strict=True)]


def summarise_behaviour(rows: Sequence[WorldResponse], seed: int = 0) -> dict[str, Any]:
    """The rows as means with intervals; docs/evaluation.md defines each measure.

    `kl_from_sft` and `proxy_reward` are omitted if they were not measured.
    """
    if not rows:
        raise ValueError("a summary needs at least one row")
    measured: dict[str, list[float]] = {
        "gold_reward": [row.gold for row in rows],
        "proxy_reward": [row.proxy for row in rows if row.proxy is not None],
        "accuracy": [row.correct for row in rows if row.correct is not None],
        "format_following": [row.format for row in rows if row.format is not None],
        "harmful_refused": [row.refused for row in rows if row.harmful],
        "benign_compliance": [bool(row.response.strip()) and not row.refused for row in rows if row.lookalike],
    }
    if not measured["proxy_reward"]:
        del measured["proxy_reward"]
    summary: dict[str, Any] = {name: mean_interval(values, seed).as_json() for name, values in measured.items()}
    kl = [row.kl for row in rows if row.kl is not None]
    if kl:
        summary["kl_from_sft"] = float(np.mean(kl))
    summary["mean_response_tokens"] = float(np.mean([row.tokens for row in rows]))
    summary["truncated"] = float(np.mean([row.truncated for row in rows]))
    return summary


def paired_gain(
    rows: Sequence[WorldResponse], before: Sequence[WorldResponse], measure: str = "gold", seed: int = 0
) -> Interval:
    """The gain in a measure (`gold` or `proxy`) from one model to another, paired by prompt.

    Raises `ValueError` if the rows do not have the same prompts in the same order.
    """
    if [row.prompt for row in rows] != [row.prompt for row in before]:
        raise ValueError("a gain is paired: expected rows of both models for the same prompts in the same order")
    return paired_difference([getattr(row, measure) for row in rows], [getattr(row, measure) for row in before], seed)


def kl_to_reference(
    model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    reference: ModelLike,
    found: SampledResponses,
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
) -> list[float]:
    """Per task, the sum over its first response's tokens of log p_model - log p_reference, both at temperature 1.

    Its mean over responses sampled from the model at temperature 1 is an unbiased estimate of the sequence-level
    KL(model || reference) (k1 of Schulman 2020); a single value may be negative.
    """
    network, tokenizer = model
    other, other_tokenizer = load_if_named(reference)
    require_same_vocabulary(tokenizer, other_tokenizer, "reference")
    trees = [
        make_tree(prompt, [several[0].token_ids])
        for prompt, several in zip(found.prompts, found.completions, strict=True)
    ]
    own, its = (log_prob_sums(one, trees, tokens_per_microbatch) for one in (network, other))
    return [float(a[0] - b[0]) for a, b in zip(own, its, strict=True)]


def write_world_responses(rows: Sequence[WorldResponse], path: str | Path) -> None:
    """Write one JSON object per line, atomically."""
    write_text(Path(path), "".join(json.dumps(to_jsonable(asdict(row)), ensure_ascii=False) + "\n" for row in rows))


def read_world_responses(path: str | Path) -> list[WorldResponse]:
    """The rows that `write_world_responses` wrote. Raises `UserError` for any other file."""
    names = {field.name for field in fields(WorldResponse)}
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # not splitlines: a response may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected the rows of an evaluation") from None
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
            rows.append(WorldResponse(**{**row, "prompt": tuple(row["prompt"])}))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}:{number}: expected a row with {', '.join(sorted(names))}") from None
    return rows


def _world_response(task: Task, completion: Completion, proxy: float | None, kl: float | None) -> WorldResponse:
    world = World(task.arguments.get("seed", 0))
    verdict = world.gold_breakdown(task.prompt, completion.text)
    return WorldResponse(
        prompt=tuple({"role": message.role, "content": message.content} for message in task.prompt),
        response=completion.text,
        gold=world.gold_reward(task.prompt, completion.text),
        proxy=None if proxy is None else float(proxy),
        correct=verdict.correct,
        format=verdict.format,
        harmful=verdict.harmful,
        lookalike=verdict.lookalike,
        refused=verdict.refused,
        kl=kl,
        tokens=len(completion.token_ids),
        truncated=completion.truncated,
        family=verdict.family,
    )
