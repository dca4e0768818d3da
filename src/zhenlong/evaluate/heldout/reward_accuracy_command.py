"""`zhenlong reward_accuracy`: a trained reward model on new preference pairs."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Unpack

from zhenlong.data.chat_templates import ChatTemplate
from zhenlong.data.options import PromptOptions
from zhenlong.data.pair_template import reward_model_template
from zhenlong.data.reader import BadRow, read
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.reward_report import length_bias, preference_calibration
from zhenlong.evaluate.heldout.text_metrics import fitting_ranking_trees, ranking_accuracy
from zhenlong.evaluate.statistics.intervals import ratio_interval
from zhenlong.forest.scoring import DEFAULT_TOKENS_PER_MICROBATCH, model_context_length, reward_scores
from zhenlong.models.model_argument import load_if_named
from zhenlong.options import take_options
from zhenlong.options.keywords import PromptKwargs
from zhenlong.records import Message, Ranking


def reward_accuracy_command(
    *,
    model: str,
    data: str,
    group: str = "",
    limit: int | None = None,
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    output: str = "",
    json: bool = False,
    seed: int = 0,
    **options: Unpack[PromptKwargs],
) -> dict[str, Any]:
    """Measure a trained reward model on preference pairs that it has not seen.

    Args:
        model: The reward model: a model or run folder, or a hub id.
        data: Pairs or rankings, in any format of preferences that training reads.
        group: A column of the rows; accuracy and margin are given for each of its values, too. Empty: source, if the
            rows have it.
        limit: Only the first so many rows.
        tokens_per_microbatch: Tokens of one forward pass; fewer need less memory.
        output: JSON file for all numbers.
    """
    (prompt_options,) = take_options(options, PromptOptions())
    skipped: list[BadRow] = []
    rankings = read(data, Ranking, skip_bad_rows=prompt_options.skip_bad_rows, limit=limit, skipped=skipped)
    if group and not any(group in one.meta for one in rankings):
        columns = sorted({name for one in rankings for name in one.meta})
        raise UserError(f"group {group!r}: no row has this column; there are {', '.join(columns) or 'none'}")
    network, tokenizer = load_if_named(model, "reward")
    template = reward_model_template(tokenizer, prompt_options.template_spec)
    readable, merged = merge_turns(rankings, template)
    fitting, trees = fitting_ranking_trees(readable, template, model_context_length(network))
    scores = reward_scores(network, trees, tokens_per_microbatch)
    lengths = [np.asarray([len(child.tokens) for child in node.children], dtype=np.float64) for node in trees]
    found = {
        **ranking_accuracy(fitting, scores, len(rankings), seed),
        **_margins(fitting, scores, seed),
        "by_group": _by_group(fitting, scores, group or "source", seed),
        "calibration": preference_calibration(fitting, scores),
        "length": length_bias(fitting, scores, lengths),
        "skipped": len(skipped),
        "merged_turns": merged,
    }
    text = json_format.dumps(found, indent=2, ensure_ascii=False)
    if output:
        from zhenlong.loop.atomic import write_text

        write_text(Path(output), text + "\n")
    print(text if json else _table(found))
    if merged:
        print(f"zhenlong: {merged} conversations with two turns of one role in a row were merged", file=sys.stderr)
    return found


def merge_turns(rankings: Sequence[Ranking], template: ChatTemplate) -> tuple[list[Ranking], int]:
    """The rankings as the template can render them, and how many were changed.

    Turns of one role in a row stay as they are where the template takes them, and else become one turn.
    """
    found, merged = [], 0
    for one in rankings:
        roles = [message.role for message in one.prompt]
        if any(a == b for a, b in zip(roles, [*roles[1:], "assistant"], strict=True)):
            try:
                template.encode_prompt(one.prompt)
            except UserError:
                one, merged = replace(one, prompt=_merged(one.prompt)), merged + 1
        found.append(one)
    return found, merged


def _merged(messages: Sequence[Message]) -> tuple[Message, ...]:
    found: list[Message] = []
    for message in messages:
        if found and found[-1].role == message.role and not (found[-1].tool_calls or message.tool_calls):
            found[-1] = replace(found[-1], content=f"{found[-1].content}\n\n{message.content}")
        else:
            found.append(message)
    return tuple(found)


def _margins(rankings: Sequence[Ranking], scores: Sequence[Any], seed: int) -> dict[str, Any]:
    """The mean of chosen minus rejected over all pairs, by rankings, and the number of equal scores."""
    margins = [[float(row[a] - row[b]) for a, b in one.pairs()] for one, row in zip(rankings, scores, strict=True)]
    if not margins:
        return {"margin": None, "ties": 0}
    interval = ratio_interval([sum(one) for one in margins], [len(one) for one in margins], seed)
    return {"margin": interval.as_json(), "ties": sum(value == 0 for one in margins for value in one)}


def _by_group(rankings: Sequence[Ranking], scores: Sequence[Any], column: str, seed: int) -> dict[str, Any]:
    """Accuracy, margin and ties for each value of a column."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(rankings):
        if column in one.meta:
            places.setdefault(str(one.meta[column]), []).append(place)
    found = {}
    for value, own in sorted(places.items()):
        part, rows = [rankings[place] for place in own], [scores[place] for place in own]
        known = ranking_accuracy(part, rows, len(part), seed)
        found[value] = {"accuracy": known["accuracy"], "pairs": known["pairs"], **_margins(part, rows, seed)}
    return found


def _table(found: Mapping[str, Any]) -> str:
    lines = [_line("accuracy", found)]
    lines += [_line(f"  {name}", one) for name, one in found["by_group"].items()]
    error = found["calibration"]["ece"]
    lines.append(f"calibration error  {'no value' if error is None else f'{error:.3f}'}")
    lines.append(f"overlong           {found['overlong']} rankings left out")
    return "\n".join(lines)


def _line(name: str, one: Mapping[str, Any]) -> str:
    def shown(interval: Mapping[str, Any] | None) -> str:
        if interval is None or interval["mean"] is None:
            return "no value"
        low, high = interval["ci95"]
        ends = "no interval" if low is None else f"[{low:.3g}, {high:.3g}]"
        return f"{interval['mean']:.3g} {ends}"

    return (
        f"{name:18} {shown(one['accuracy'])}, {one['pairs']} pairs, {one['ties']} ties; margin {shown(one['margin'])}"
    )
