"""Demonstrations of judging, made of rankings: what teaches a model to judge before it judges its own answers.

Yuan et al. 2024, §2.1, call them evaluation fine-tuning data. Every request is worded as `self_reward` and
`ai_feedback` word theirs, and the reply is the verdict alone, for rankings say which answer is better and not why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final, Literal

from typing_extensions import Unpack

from zhenlong.data import BadRow, read
from zhenlong.data.options import RowOptions
from zhenlong.errors import UserError
from zhenlong.feedback.pairwise_judge import comparison_messages
from zhenlong.feedback.pointwise_judge import MAX_SCORE, scoring_messages
from zhenlong.loop.atomic import write_text
from zhenlong.options import take_options
from zhenlong.options.keywords import RowKwargs
from zhenlong.records import Demonstration, Message, Messages, Ranking, to_json

MIN_SCORE: Final = 1.0
"""Points of a ranking's worst answer; its best one has all."""


def judge_demonstrations(
    *,
    data: str,
    output: str,
    judge_mode: Literal["pointwise", "pairwise"] = "pointwise",
    reasoning: bool = True,
    seed: int = 0,
    **options: Unpack[RowKwargs],
) -> Path:
    """Make demonstrations of judging from rankings, for `sft`.

    Args:
        data: Rankings: files, hf:owner/name or world:rankings.
        output: Folder for demonstrations.jsonl.
        judge_mode: pointwise (each answer by itself: 5 for a ranking's best, 1 for its worst, the others between by
            rank) or pairwise (two answers of different rank at a time, in an order that is drawn).
        reasoning: The pairwise request asks for a comparison in words first, as that of `self_reward` does.
        seed: Seed of the order in which two answers are shown.

    Returns the file.
    """
    (row_options,) = take_options(options, RowOptions())
    if judge_mode not in ("pointwise", "pairwise"):
        raise UserError(f"judge_mode: expected pointwise or pairwise, got {judge_mode!r}")
    skipped: list[BadRow] = []
    rankings = read(data, Ranking, skip_bad_rows=row_options.skip_bad_rows, skipped=skipped)
    rng = Random(f"teach_judge:{seed}")
    demonstrations = [
        Demonstration((*request, Message("assistant", reply)), "judge_demonstrations")
        for one in rankings
        for request, reply in (
            _pointwise_examples(one) if judge_mode == "pointwise" else _pairwise_examples(one, reasoning, rng)
        )
    ]
    path = Path(output) / "demonstrations.jsonl"
    write_text(path, "".join(json.dumps(to_json(one), ensure_ascii=False) + "\n" for one in demonstrations))
    return path


def _pointwise_examples(ranking: Ranking) -> Iterator[tuple[Messages, str]]:
    """Each answer with its points, in equal steps from the best rank down to the worst."""
    best, worst = min(ranking.ranks), max(ranking.ranks)
    for response, rank in zip(ranking.responses, ranking.ranks, strict=True):
        score = round(MAX_SCORE - (MAX_SCORE - MIN_SCORE) * (rank - best) / (worst - best))
        yield scoring_messages(ranking.prompt, response), f"Score: {score}"


def _pairwise_examples(ranking: Ranking, reasoning: bool, rng: Random) -> Iterator[tuple[Messages, str]]:
    """Each pair of answers of different rank, with the verdict of who ranked them."""
    for chosen, rejected in ranking.pairs():
        chosen_first = rng.random() < 0.5
        shown = (chosen, rejected) if chosen_first else (rejected, chosen)
        request = comparison_messages(
            ranking.prompt, *(ranking.responses[place] for place in shown), reasoning=reasoning
        )
        yield request, f"[[{'A' if chosen_first else 'B'}{ranking.strength or 1}]]"
