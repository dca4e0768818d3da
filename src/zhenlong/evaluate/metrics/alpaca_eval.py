"""AlpacaEval 2: a judge's preference for the model over the baseline, plain and length-controlled."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.length_control import (
    PUBLISHED_LENGTH_EFFECT,
    length_controlled_win_rate,
    read_gamed_baselines,
)
from zhenlong.evaluate.judges.pairwise_games import (
    PairwiseGame,
    game_from_json,
    output_lengths,
    query_judge,
    recorded_verdict,
    require_baseline_outputs,
)
from zhenlong.evaluate.judges.prompts import ALPACA_EVAL, read_chatml_prompt
from zhenlong.evaluate.judges.verdict_parsing import first_output_probability
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, judged_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.inference.model_client import Judge
from zhenlong.inference.verdicts import RECORDED_NULL, read_output, unread_record
from zhenlong.verify.judge_parsing import NO_VERDICT, Verdict

TOP: Final = 5
LENGTH_EFFECTS: Final = {"published": PUBLISHED_LENGTH_EFFECT, "fitted": None}


@judged_metric("alpaca_eval", Measure("win_rate"), Measure("judge_unparsed", higher_is_better=False))
def alpaca_eval(
    outcomes: Sequence[Outcome], judge: Judge | None, *, prompt: str = "", judge_max_tokens: int = 1
) -> list[ScoredOutcome]:
    """100 times the judge's probability of preferring the model, from its first token (tatsu-lab/alpaca_eval).

    `prompt` is a file with the official prompt, `alpaca_eval_clf.txt`. One token is asked for; a reasoning judge needs
    more `judge_max_tokens`, and what its reply begins with after the trace decides. A recorded `preference` is from 1
    (the baseline) to 2 (the model); 0 and 1.5 are ties, null is an unparsed verdict.
    """
    if judge is None:
        games = [_recorded_game(one) for one in outcomes]
        verdicts = [Verdict(game.score, RECORDED_NULL) for game in games]
    else:
        asked = read_chatml_prompt(prompt) if prompt else ALPACA_EVAL
        answers = [(one.text, require_baseline_outputs(one)[0]) for one in outcomes]
        orders = [model_shown_first(one.instance.input) for one in outcomes]
        conversations = []
        for one, pair, first in zip(outcomes, answers, orders, strict=True):
            shown = pair if first else pair[::-1]
            conversations.append(
                asked.messages({"instruction": one.instance.input, "output_1": shown[0], "output_2": shown[1]})
            )
        said = query_judge(judge, conversations, max_tokens=judge_max_tokens, temperature=1.0, top_log_probs=TOP)
        games, verdicts = [], []
        for output, pair, first in zip(said, answers, orders, strict=True):
            share = first_output_probability(output)
            verdicts.append(read_output(output, partial(_share_as_verdict, share)))
            score = share if share is None or first else 1 - share
            lengths = (len(pair[0]), len(pair[1]))
            games.append(PairwiseGame(first, score, output.text, lengths=lengths, answer=output.text))
    return [_scored(*row, judge) for row in zip(outcomes, games, verdicts, strict=True)]


@corpus_metric("length_controlled_win_rate", Measure("length_controlled_win_rate"))
def length_controlled(
    scored: Sequence[ScoredOutcome], *, gamed: str = "", length_effect: str = "published"
) -> dict[str, Interval]:
    """The length-controlled win rate; omitted if fewer than ten responses have a verdict and a baseline.

    With `gamed`, a local copy of upstream's `df_gamed.csv`, the fit is upstream's. Without, the effect of length is
    near that of the official judge (`length_effect` published), or `fitted` to these verdicts alone; see
    `judges.length_control`.
    """
    if length_effect not in LENGTH_EFFECTS:
        expected = " or ".join(LENGTH_EFFECTS)
        raise UserError(f"metric length_controlled_win_rate: length_effect {length_effect!r}: expected {expected}")
    known = [(one, game_from_json(one.judgement["games"][0])) for one in scored if one.judgement.get("games")]
    known = [(one, game) for one, game in known if game.score is not None and game.lengths is not None]
    rows = read_gamed_baselines(gamed) if gamed else None
    found = length_controlled_win_rate(
        [float(game.score or 0.0) for _, game in known],
        [game.lengths or (0, 0) for _, game in known],
        [_number(one.outcome) for one, _ in known] if rows else (),
        rows,
        length_effect=LENGTH_EFFECTS[length_effect],
    )
    return {} if found is None else {"length_controlled_win_rate": found}


def model_shown_first(instruction: str) -> bool:
    """Whether the model's output is shown first: upstream's random choice, seeded by the instruction."""
    switched = random.Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]
    return bool(switched)  # unswitched, the baseline is output_1


def _share_as_verdict(share: float | None, _: str) -> Verdict:
    """What the first token said, as if it had been read from the reply."""
    return Verdict(share, NO_VERDICT)


def _recorded_game(outcome: Outcome) -> PairwiseGame:
    given: Any = recorded_verdict(outcome, "preference")
    lengths = output_lengths(outcome)
    if given is None or given != given:
        return PairwiseGame(None, None, lengths=lengths)
    if isinstance(given, bool) or not isinstance(given, int | float) or not (given == 0 or 1 <= given <= 2):
        raise UserError(f"instance {outcome.instance.id}: preference: expected 1 to 2, or 0 for a tie, got {given!r}")
    return PairwiseGame(None, 0.5 if given == 0 else given - 1, str(given), lengths=lengths)


def _scored(outcome: Outcome, game: PairwiseGame, verdict: Verdict, judge: Judge | None) -> ScoredOutcome:
    scores = {"judge_unparsed": float(game.score is None)}
    if game.score is not None:
        scores["win_rate"] = 100 * game.score
    unread = unread_record([verdict], [game.answer])
    judgement = {"judge": judge.name if judge else "recorded", "games": [game.as_json()], **unread}
    return ScoredOutcome(outcome, scores, judgement)


def _number(outcome: Outcome) -> int:
    if not outcome.instance.id.isdigit():
        raise UserError(
            f"instance {outcome.instance.id}: expected AlpacaEval's row number as its id, to look up its difficulty"
        )
    return int(outcome.instance.id)
