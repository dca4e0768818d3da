"""Sampled responses: of all models to the same prompt, and of one model over its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.report.labels import MINUS_SIGN, display_name, mean_value
from zhenlong.report.report_data import JsonRows

MAX_COMPARED_PROMPTS: Final = 12
MAX_PROMPTS_OVER_TRAINING: Final = 4


@dataclass(frozen=True)
class PromptMessage:
    """One message of a prompt."""

    role: str
    text: str


@dataclass(frozen=True)
class SampledResponse:
    """One response: its source (a model or a step), its text, and tags such as rewards."""

    source: str
    text: str
    tags: list[str]


@dataclass(frozen=True)
class ResponseComparison:
    """A prompt and its responses."""

    prompt: list[PromptMessage]
    family: str
    responses: list[SampledResponse]


def compare_responses(
    evaluations: Mapping[str, JsonRows], limit: int = MAX_COMPARED_PROMPTS
) -> list[ResponseComparison]:
    """Prompts that every model responded to, one per family first, in the order of the first model's rows.

    The selection depends on the prompts only, not on the responses.
    """
    rows_by_model = {model: {prompt_key(row): row for row in reversed(rows)} for model, rows in evaluations.items()}
    if not rows_by_model:
        return []
    shared = [key for key in dict.fromkeys(map(prompt_key, next(iter(evaluations.values()))))
              if key and all(key in rows for rows in rows_by_model.values())]  # fmt: skip
    first = next(iter(rows_by_model.values()))
    families = [str(first[key].get("family") or "") for key in shared]
    seen: dict[str, int] = {}
    rounds = []
    for place, family in enumerate(families):
        rounds.append((seen.get(family, 0), place))
        seen[family] = seen.get(family, 0) + 1
    selected = [shared[place] for _, place in sorted(rounds)[:limit]]
    return [
        ResponseComparison(
            _prompt_messages(first[key].get("prompt")),
            str(first[key].get("family") or ""),
            [
                SampledResponse(display_name(model), str(rows[key].get("response", "")), _tags(rows[key]))
                for model, rows in rows_by_model.items()
            ],
        )
        for key in selected
    ]


def responses_over_training(samples: JsonRows, limit: int = MAX_PROMPTS_OVER_TRAINING) -> list[ResponseComparison]:
    """The first prompts sampled in a run, each with its response at every step."""
    by_prompt: dict[str, JsonRows] = {}
    for row in samples:
        if key := prompt_key(row):
            by_prompt.setdefault(key, []).append(row)
    return [
        ResponseComparison(
            _prompt_messages(rows[0].get("prompt")),
            "",
            [SampledResponse(f"step {row.get('step', '')}", str(row.get("response", "")), _tags(row)) for row in rows],
        )
        for rows in list(by_prompt.values())[:limit]
    ]


def prompt_key(row: Mapping[str, Any]) -> str:
    """The identity of a row's prompt; empty for a row without one."""
    prompt = row.get("prompt")
    return json.dumps(prompt, sort_keys=True) if prompt else ""


def _prompt_messages(prompt: Any) -> list[PromptMessage]:
    if not isinstance(prompt, list):
        return [PromptMessage("user", str(prompt))]
    messages = [message if isinstance(message, Mapping) else {"content": message} for message in prompt]
    return [PromptMessage(str(message.get("role", "user")), str(message.get("content", ""))) for message in messages]


def _tags(row: Mapping[str, Any]) -> list[str]:
    """Rewards with two decimals, then other facts about the response."""
    reward_keys = {"gold": "gold", "proxy": "proxy", "reward": "reward"}
    numbers = [(label, mean_value(row.get(key))) for key, label in reward_keys.items()]
    tags = [f"{label} {value:.2f}".replace("-", MINUS_SIGN) for label, value in numbers if value is not None]
    return tags + [word for word in ("refused", "truncated") if row.get(word) is True]
