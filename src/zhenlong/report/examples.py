"""What the models said: the same prompt answered by all of them, and by one of them over its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.report.folder import Rows
from zhenlong.report.measures import MINUS, mean_of, name_of

EXAMPLES: Final = 12
OVER_TIME: Final = 4


@dataclass(frozen=True)
class Turn:
    """One message of a prompt."""

    role: str
    text: str


@dataclass(frozen=True)
class Said:
    """One response: by whom (a model, or a step), the text, and short remarks such as its rewards."""

    by: str
    text: str
    remarks: list[str]


@dataclass(frozen=True)
class Example:
    """A prompt and the responses to it."""

    prompt: list[Turn]
    family: str
    said: list[Said]


def side_by_side(evaluations: Mapping[str, Rows], limit: int = EXAMPLES) -> list[Example]:
    """The prompts that every model answered, one of each family first, in the order of the first model's rows.

    The choice looks at the prompts alone, never at how well they were answered.
    """
    answers = {model: {prompt_key(row): row for row in reversed(rows)} for model, rows in evaluations.items()}
    if not answers:
        return []
    shared = [key for key in dict.fromkeys(map(prompt_key, next(iter(evaluations.values()))))
              if key and all(key in rows for rows in answers.values())]  # fmt: skip
    first = next(iter(answers.values()))
    families = [str(first[key].get("family") or "") for key in shared]
    seen: dict[str, int] = {}
    rounds = []
    for place, family in enumerate(families):
        rounds.append((seen.get(family, 0), place))
        seen[family] = seen.get(family, 0) + 1
    chosen = [shared[place] for _, place in sorted(rounds)[:limit]]
    return [
        Example(
            _turns(first[key].get("prompt")),
            str(first[key].get("family") or ""),
            [
                Said(name_of(model), str(rows[key].get("response", "")), _remarks(rows[key]))
                for model, rows in answers.items()
            ],
        )
        for key in chosen
    ]


def over_time(samples: Rows, limit: int = OVER_TIME) -> list[Example]:
    """The first prompts sampled in a run, each with what was said to it at every step."""
    by_prompt: dict[str, Rows] = {}
    for row in samples:
        if key := prompt_key(row):
            by_prompt.setdefault(key, []).append(row)
    return [
        Example(
            _turns(rows[0].get("prompt")),
            "",
            [Said(f"step {row.get('step', '')}", str(row.get("response", "")), _remarks(row)) for row in rows],
        )
        for rows in list(by_prompt.values())[:limit]
    ]


def prompt_key(row: Mapping[str, Any]) -> str:
    """What tells prompts apart; empty for a row without one."""
    prompt = row.get("prompt")
    return json.dumps(prompt, sort_keys=True) if prompt else ""


def _turns(prompt: Any) -> list[Turn]:
    if not isinstance(prompt, list):
        return [Turn("user", str(prompt))]
    messages = [message if isinstance(message, Mapping) else {"content": message} for message in prompt]
    return [Turn(str(message.get("role", "user")), str(message.get("content", ""))) for message in messages]


def _remarks(row: Mapping[str, Any]) -> list[str]:
    """Rewards with two decimals, then what is worth knowing."""
    named = {"gold": "gold", "proxy": "proxy", "reward": "reward"}
    numbers = [(label, mean_of(row.get(key))) for key, label in named.items()]
    remarks = [f"{label} {value:.2f}".replace("-", MINUS) for label, value in numbers if value is not None]
    return remarks + [word for word in ("refused", "truncated") if row.get(word) is True]
