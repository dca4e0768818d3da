"""Arena-Hard win rates of one model against the baseline, by both versions' rules, plain and style-controlled.

lmarena/arena-hard-auto: v0.1 show_result.py and utils_math.py at commit 0489bf3, v2 show_result.py at 005ac12 and
utils/math_utils.py. All values are in per cent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from zhenlong.evaluate.judges.bradley_terry import (
    Battle,
    Strengths,
    battle_matrix,
    bootstrap_strengths,
    fit_bradley_terry,
)
from zhenlong.evaluate.judges.pairwise_games import PairwiseGame
from zhenlong.evaluate.judges.style_control import (
    Style,
    difference_of_counts,
    difference_of_densities,
    standardize_features,
)
from zhenlong.evaluate.statistics.bootstrap import percentile_bounds
from zhenlong.evaluate.statistics.intervals import Interval

MODEL, BASELINE = "model", "baseline"
ARENA_HARD_RESAMPLES: Final = 100
# scikit-learn's penalty of one half the squared parameters, there on Elo/400 and with every battle counted twice
PENALTY: Final = (0.5 / float(np.log(10)) ** 2, 0.5)

JudgedQuestion = tuple[
    tuple[PairwiseGame, ...], tuple[Style, Style] | None
]  # a question's two games, and the styles of both responses


def v01_win_rate(questions: Sequence[JudgedQuestion], seed: int = 0) -> Interval | None:
    """100 P(model beats baseline) by Bradley-Terry without a penalty; 2.5 to 97.5 % of 100 bootstrap resamples.

    An unparsed game is left out; the question's other game stays.
    """
    battles = [one for games, _ in questions for one in _battles([game for game in games if game.score is not None])]
    return _bradley_terry_interval(battles, (0.0, 0.0), (2.5, 97.5), seed) if battles else None


def v01_style_controlled(questions: Sequence[JudgedQuestion], control: str, seed: int = 0) -> Interval | None:
    """The same with style control: penalised logistic regression with (a - b) / (a + b + 1) of each count.

    Upstream fits all models of its leaderboard together and centres each feature; a single model is fitted without
    centring (see `style_control.standardize_features`).
    """
    parsed = [(tuple(game for game in games if game.score is not None), style) for games, style in questions]
    battles = _battles_with_style(parsed, control, difference_of_counts, ddof=0)
    return _bradley_terry_interval(battles, PENALTY, (2.5, 97.5), seed) if battles else None


def v2_win_rate(questions: Sequence[JudgedQuestion], seed: int = 0) -> Interval | None:
    """100 times the mean of 100 bootstrap means of the battles' scores, with their 5 to 95 % (a 90 % interval).

    A question with an unparsed game is left out.
    """
    battles = [one for games, _ in _fully_parsed(questions) for one in _battles(games)]
    if not battles:
        return None
    scores = np.repeat([one.score for one in battles], [int(one.weight) for one in battles])
    rng = np.random.default_rng(seed)
    means = 100 * np.array([rng.choice(scores, len(scores)).mean() for _ in range(ARENA_HARD_RESAMPLES)])
    ends = percentile_bounds(means, len(scores), ends=(5, 95))
    return Interval(float(means.mean()), ends, len(scores))


def v2_style_controlled(questions: Sequence[JudgedQuestion], control: str, seed: int = 0) -> Interval | None:
    """100 P(model beats baseline) with style control: the median of 100 Bradley-Terry fits, with their 5 to 95 %.

    Length-only and Markdown-only keep the model's own column; upstream's slicing loses it (arena-hard-auto#71).
    """
    battles = _battles_with_style(_fully_parsed(questions), control, difference_of_densities, ddof=1)
    if not battles:
        return None
    drawn = bootstrap_strengths(
        battle_matrix(battles), ARENA_HARD_RESAMPLES, anchor=BASELINE, seed=seed, repeat_by_weight=True
    )
    rates = 100 * np.array([_rate(one) for one in drawn])
    n = int(sum(one.weight for one in battles))
    return Interval(float(np.median(rates)), percentile_bounds(rates, n, ends=(5, 95)), n)


def _fully_parsed(questions: Sequence[JudgedQuestion]) -> list[JudgedQuestion]:
    return [one for one in questions if one[0] and all(game.score is not None for game in one[0])]


def _battles(games: Sequence[PairwiseGame]) -> list[Battle]:
    return [Battle(MODEL, BASELINE, float(game.score or 0.0), game.weight) for game in games]


def _battles_with_style(
    questions: Sequence[JudgedQuestion],
    control: str,
    difference: Callable[[Style, Style], tuple[float, ...]],
    *,
    ddof: int,
) -> list[Battle]:
    """The battles of the questions whose two responses are known, with their difference in style."""
    known = [(game, style) for games, style in questions if style is not None for game in games]
    if not known:
        return []
    rows = [difference(*style) for _, style in known]
    features = standardize_features(rows, [game.weight for game, _ in known], control, center=False, ddof=ddof)
    return [
        Battle(MODEL, BASELINE, float(game.score or 0.0), game.weight, tuple(map(float, row)))
        for (game, _), row in zip(known, features, strict=True)
    ]


def _bradley_terry_interval(
    battles: Sequence[Battle], penalty: tuple[float, float], ends: tuple[float, float], seed: int
) -> Interval:
    given = battle_matrix(battles)
    drawn = bootstrap_strengths(
        given, ARENA_HARD_RESAMPLES, anchor=BASELINE, penalty=penalty, seed=seed, repeat_by_weight=True
    )
    rate, n = 100 * _rate(fit_bradley_terry(given, anchor=BASELINE, penalty=penalty)), int(given.weight.sum())
    return Interval(rate, percentile_bounds([100 * _rate(one) for one in drawn], n, ends=ends), n)


def _rate(found: Strengths) -> float:
    return found.win_rate(MODEL, BASELINE)
