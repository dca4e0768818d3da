"""Demonstrations of judging, made of rankings: what teaches a model to judge before it judges its own answers.

Yuan et al. 2024, §2.1, call them evaluation fine-tuning data. Every request is worded as `self_reward` and `label` word
theirs, and the reply is the verdict alone, for rankings say which answer is better and not why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final, Literal

from zhenlong.data import BadRow, read
from zhenlong.errors import UserError
from zhenlong.feedback.points import MOST, rating_request
from zhenlong.feedback.verdicts import comparison
from zhenlong.loop.atomic import write_text
from zhenlong.records import Demonstration, Message, Messages, Ranking, to_json

LEAST: Final = 1.0
"""Points of a ranking's worst answer; its best one has all."""


def teach_judge(
    *,
    data: str,
    output: str,
    judge: Literal["points", "pairs"] = "points",
    reasoning: bool = True,
    skip_bad_rows: bool = False,
    seed: int = 0,
) -> Path:
    """Make demonstrations of judging from rankings, for `sft`.

    Args:
        data: Rankings: files, hf:owner/name or world:rankings.
        output: Folder for demonstrations.jsonl.
        judge: points (each answer by itself: 5 for a ranking's best, 1 for its worst, the others between by rank) or
            pairs (two answers of different rank at a time, in an order that is drawn).
        reasoning: The request of pairs asks for a comparison in words first, as that of `self_reward` does.
        skip_bad_rows: Leave bad rows out.
        seed: Seed of the order in which two answers are shown.

    Returns the file.
    """
    if judge not in ("points", "pairs"):
        raise UserError(f"judge: expected points or pairs, got {judge!r}")
    skipped: list[BadRow] = []
    rankings = read(data, Ranking, skip_bad_rows=skip_bad_rows, skipped=skipped)
    rng = Random(f"teach_judge:{seed}")
    found = [
        Demonstration((*request, Message("assistant", reply)), "teach_judge")
        for one in rankings
        for request, reply in (_points(one) if judge == "points" else _pairs(one, reasoning, rng))
    ]
    path = Path(output) / "demonstrations.jsonl"
    write_text(path, "".join(json.dumps(to_json(one), ensure_ascii=False) + "\n" for one in found))
    return path


def _points(one: Ranking) -> Iterator[tuple[Messages, str]]:
    """Each answer with its points, in equal steps from the best rank down to the worst."""
    best, worst = min(one.ranks), max(one.ranks)
    for answer, rank in zip(one.responses, one.ranks, strict=True):
        points = round(MOST - (MOST - LEAST) * (rank - best) / (worst - best))
        yield rating_request(one.prompt, answer), f"Score: {points}"


def _pairs(one: Ranking, reasoning: bool, rng: Random) -> Iterator[tuple[Messages, str]]:
    """Each pair of answers of different rank, with the verdict of who ranked them."""
    for better, worse in one.pairs():
        first = rng.random() < 0.5
        shown = (better, worse) if first else (worse, better)
        request = comparison(one.prompt, *(one.responses[place] for place in shown), reasoning=reasoning)
        yield request, f"[[{'A' if first else 'B'}{one.strength or 1}]]"
