"""Elo ratings and win rates with intervals, from verdicts on pairs of any number of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.bradley_terry import (
    Battle,
    Strengths,
    battle_matrix,
    bootstrap_strengths,
    fit_bradley_terry,
)
from zhenlong.evaluate.judges.style_control import CONTROLS, Style, difference_of_counts, standardize_features
from zhenlong.evaluate.statistics.bootstrap import percentile_bounds
from zhenlong.evaluate.statistics.intervals import Interval

ARENA_RESAMPLES: Final = 100


def elo_ratings(
    battles: Sequence[Battle],
    *,
    anchor: str = "",
    points: float = 1000.0,
    num_resamples: int = ARENA_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Elo ratings of all models (base 10, scale 400), strongest first, with 95 % intervals by bootstrap over battles.

    The anchor is fixed at `points`; without one the mean over models is. A tie is half a win for each. Raises
    `UserError` for no battles, an unknown anchor, and models that no chain of battles connects.
    """
    given = battle_matrix(_require_connected(battles, anchor))
    whole = fit_bradley_terry(given, anchor=anchor)
    resampled = bootstrap_strengths(given, num_resamples, anchor=anchor, seed=seed)
    num_battles = {name: sum(name in (one.first, one.second) for one in battles) for name in given.models}
    found = {
        name: _interval(whole.elo(name, points), [one.elo(name, points) for one in resampled], num_battles[name])
        for name in given.models
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].mean))


def win_rates(
    battles: Sequence[Battle], against: str, *, num_resamples: int = ARENA_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """P(model beats `against`) per model, with 95 % intervals; at equal style if the battles have style features."""
    given = battle_matrix(_require_connected(battles, against))
    whole, drawn = (
        fit_bradley_terry(given, anchor=against),
        bootstrap_strengths(given, num_resamples, anchor=against, seed=seed),
    )

    def of(name: str) -> Interval:
        values = [one.win_rate(name, against) for one in drawn]
        return _interval(whole.win_rate(name, against), values, len(battles))

    found = {name: of(name) for name in given.models if name != against}
    return dict(sorted(found.items(), key=lambda item: -item[1].mean))


def with_style_features(
    battles: Sequence[Battle], styles: Mapping[str, Sequence[Style]], questions: Sequence[int], control: str = "style"
) -> list[Battle]:
    """The battles with the z-scored difference in style of their two responses (Arena-Hard v0.1).

    `questions[g]` is the question of battle g, `styles[model][question]` the style of that model's response. `control`:
    style (all four features), length, or markdown.
    """
    if control not in CONTROLS:
        raise UserError(f"arena: control {control!r} is not known; expected one of {', '.join(CONTROLS)}")
    rows = [
        difference_of_counts(styles[one.first][question], styles[one.second][question])
        for one, question in zip(battles, questions, strict=True)
    ]
    features = standardize_features(rows, [one.weight for one in battles], control, center=True)
    return [replace(one, style=tuple(map(float, row))) for one, row in zip(battles, features, strict=True)]


def fit_strengths(battles: Sequence[Battle], anchor: str = "") -> Strengths:
    """The maximum-likelihood strengths of all models."""
    return fit_bradley_terry(battle_matrix(_require_connected(battles, anchor)), anchor=anchor)


def _interval(value: float, resampled: Sequence[float], n: int) -> Interval:
    return Interval(value, percentile_bounds(resampled, n), n)


def _require_connected(battles: Sequence[Battle], anchor: str) -> Sequence[Battle]:
    if not battles:
        raise UserError("arena: no battles; expected at least one parsed verdict")
    groups: dict[str, set[str]] = {}
    for one in battles:
        joined = groups.get(one.first, {one.first}) | groups.get(one.second, {one.second})
        for name in joined:
            groups[name] = joined
    if anchor and anchor not in groups:
        raise UserError(f"arena: no battle of {anchor}; expected one of {', '.join(sorted(groups))}")
    if len({id(group) for group in groups.values()}) > 1:
        apart = " | ".join(sorted({", ".join(sorted(group)) for group in groups.values()}))
        raise UserError(f"arena: no battles between these groups of models: {apart}; judge a pair across them")
    return battles
