"""Two answers before a judge, in both orders: who won, how sure it is, and what else the judge looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.inference.model_client import Judge
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.records import Messages


@dataclass(frozen=True)
class PairwiseGame:
    """One verdict on a model's answer and the baseline's.

    `score` is the model's share of the win (1, 0.5, 0; between them for a judge's probabilities), None where the
    verdict could not be read. `lengths` are the characters of the model's answer and of the baseline's, where known.
    """

    model_first: bool
    score: float | None
    verdict: str | None = None
    weight: int = 1
    lengths: tuple[int, int] | None = None
    answer: str = ""  # the judge's, in full
    turn: int = 1

    def as_json(self) -> dict[str, Any]:
        """The fields that say something, for a record."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def game_from_json(row: Mapping[str, Any]) -> PairwiseGame:
    """The game that `as_json` wrote."""
    lengths = row.get("lengths")
    return PairwiseGame(**{"score": None, **row, "lengths": tuple(lengths) if lengths else None})


def order_consistency(first: PairwiseGame, second: PairwiseGame) -> float | None:
    """1 where the two orders agree on the winner, 0 where they do not; None where one of them could not be read."""
    if first.score is None or second.score is None:
        return None
    return float(_winner_sign(first.score) == _winner_sign(second.score))


def first_position_wins(games: Sequence[PairwiseGame]) -> list[float]:
    """For each game with a winner, 1 where the answer shown first won. A fair judge's mean over both orders is 1/2."""
    return [
        float((game.score > 0.5) == game.model_first) for game in games if game.score is not None and game.score != 0.5
    ]


def longer_output_wins(games: Sequence[PairwiseGame]) -> list[float]:
    """For each game with a winner and answers of different length, 1 where the longer one won."""
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
    """The judge's answers, one to each conversation."""
    if not conversations:
        return []
    options = {"max_tokens": max_tokens, "temperature": temperature, "top_log_probs": top_log_probs}
    answers = judge(conversations, **options)  # type: ignore[arg-type]
    if len(answers) != len(conversations):
        raise ValueError(f"judge {judge.name}: gave {len(answers)} answers to {len(conversations)} conversations")
    return answers


def recorded_verdict(outcome: Outcome, *names: str) -> Any:
    """The judge's verdicts of the first of these names that the row of outputs holds.

    Raises `UserError` naming the instance where there is none.
    """
    for name in names:
        if name in outcome.metadata:
            return outcome.metadata[name]
    raise UserError(
        f"instance {outcome.instance.id}: no {' or '.join(names)} in its row of outputs, and no judge; "
        "record the judge's verdicts or give --judge"
    )


def baseline_outputs_of(outcome: Outcome) -> tuple[str, ...]:
    """The baseline's answers, turn after turn; none where neither the scenario nor the row of outputs has them."""
    given = outcome.metadata.get("baseline_output", outcome.instance.data.get("baseline", ()))
    return (given,) if isinstance(given, str) else tuple(given)


def output_lengths(outcome: Outcome, turn: int = 1) -> tuple[int, int] | None:
    """The characters of the model's answer and of the baseline's; None where a row of verdicts is without one."""
    baseline = baseline_outputs_of(outcome)
    if not outcome.outputs or len(baseline) < turn:
        return None
    own = (outcome.text, *outcome.outputs[0].turns)
    return (len(own[turn - 1]), len(baseline[turn - 1])) if len(own) >= turn else None


def require_baseline_outputs(outcome: Outcome) -> tuple[str, ...]:
    """The same; raises `UserError` where there are none, for a judge has to see them."""
    found = baseline_outputs_of(outcome)
    if not found:
        raise UserError(
            f"instance {outcome.instance.id}: no baseline answer to compare with; "
            "give the baseline's answers (--baseline_outputs)"
        )
    return found


def _winner_sign(score: float) -> int:
    return (score > 0.5) - (score < 0.5)
