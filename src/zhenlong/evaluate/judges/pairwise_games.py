"""Pairwise games: a judge compares two responses in both orders; wins, order consistency, position and length bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.inference.model_client import Judge
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.records import Messages
from zhenlong.verify.answer_text import strip_reasoning


@dataclass(frozen=True)
class PairwiseGame:
    """One verdict on a model's response and the baseline's.

    `model_first` is None where the order is not known, as for recorded preferences. `score` is the model's (1 win, 0.5
    tie, 0 loss; between them for a judge's probabilities), None if the verdict was not parsed. `lengths` are the
    characters of the model's response and of the baseline's, if known.
    """

    model_first: bool | None
    score: float | None
    verdict: str | None = None
    weight: int = 1
    lengths: tuple[int, int] | None = None
    answer: str = ""  # the judge's full response
    turn: int = 1

    def as_json(self) -> dict[str, Any]:
        """The non-empty fields, for a record."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def game_from_json(row: Mapping[str, Any]) -> PairwiseGame:
    """The game that `as_json` wrote."""
    lengths = row.get("lengths")
    return PairwiseGame(**{"model_first": None, "score": None, **row, "lengths": tuple(lengths) if lengths else None})


def order_consistency(first: PairwiseGame, second: PairwiseGame) -> float | None:
    """1 if the two orders agree on the winner, else 0; None if one of them was not parsed."""
    if first.score is None or second.score is None:
        return None
    return float(_winner_sign(first.score) == _winner_sign(second.score))


def first_position_wins(games: Sequence[PairwiseGame]) -> list[float]:
    """For each game of known order with a winner, 1 if the response shown first won.

    Without bias the mean over both orders is 1/2.
    """
    return [
        float((game.score > 0.5) == game.model_first)
        for game in games
        if game.model_first is not None and game.score is not None and game.score != 0.5
    ]


def longer_output_wins(games: Sequence[PairwiseGame]) -> list[float]:
    """For each game with a winner and responses of different length, 1 if the longer one won."""
    found = []
    for game in games:
        if game.score is not None and game.score != 0.5 and game.lengths and game.lengths[0] != game.lengths[1]:
            found.append(float((game.score > 0.5) == (game.lengths[0] > game.lengths[1])))
    return found


def query_judge(
    judge: Judge,
    conversations: Sequence[Messages],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_log_probs: int = 0,
) -> list[GeneratedOutput]:
    """The judge's responses, one per conversation."""
    if not conversations:
        return []
    options = {"max_tokens": max_tokens, "temperature": temperature, "top_log_probs": top_log_probs}
    answers = judge(conversations, **options)  # type: ignore[arg-type]
    if len(answers) != len(conversations):
        raise ValueError(f"judge {judge.name}: returned {len(answers)} responses to {len(conversations)} conversations")
    return answers


def recorded_verdict(outcome: Outcome, *names: str) -> Any:
    """The recorded verdicts under the first of these names that the row of outputs has.

    Raises `UserError` naming the instance if there are none.
    """
    for name in names:
        if name in outcome.metadata:
            return outcome.metadata[name]
    raise UserError(
        f"instance {outcome.instance.id}: no {' or '.join(names)} in its row of outputs, and no judge; "
        "record the judge's verdicts or give --judge"
    )


def baseline_outputs_of(outcome: Outcome) -> tuple[str, ...]:
    """The baseline's answers by turn; empty if neither the scenario nor the row of outputs has them."""
    given = outcome.metadata.get("baseline_output", outcome.instance.data.get("baseline", ()))
    return tuple(strip_reasoning(one) for one in ((given,) if isinstance(given, str) else given))


def output_lengths(outcome: Outcome, turn: int = 1) -> tuple[int, int] | None:
    """The characters of the model's response and of the baseline's; None if a recorded verdict lacks one."""
    baseline = baseline_outputs_of(outcome)
    if not outcome.answers or len(baseline) < turn:
        return None
    own = (outcome.text, *outcome.answers[0].turns)
    return (len(own[turn - 1]), len(baseline[turn - 1])) if len(own) >= turn else None


def require_baseline_outputs(outcome: Outcome) -> tuple[str, ...]:
    """The baseline's responses; raises `UserError` if there are none, because a judge has to see them."""
    found = baseline_outputs_of(outcome)
    if not found:
        raise UserError(
            f"instance {outcome.instance.id}: no baseline response to compare with; "
            "give the baseline's responses (--baseline_outputs)"
        )
    return found


def _winner_sign(score: float) -> int:
    return (score > 0.5) - (score < 0.5)
