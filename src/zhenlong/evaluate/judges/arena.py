"""Any number of models, anybody's verdicts on pairs of them: ratings with intervals, and who beats whom how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.bradley_terry import Battle, Strengths, bootstrap, design, fit
from zhenlong.evaluate.judges.style import CONTROLS, Style, difference_of_counts, scaled
from zhenlong.evaluate.statistics import Interval

ROUNDS: Final = 100


def ratings(
    battles: Sequence[Battle],
    *,
    anchor: str = "",
    points: float = 1000.0,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Elo points of every model (base 10, scale 400), the strongest first, with 95 % intervals from resampled battles.

    The anchor has `points`; without one the mean over models has. Ties are half a win of both. Raises `UserError` for
    no battles, an unknown anchor, and models that are in no chain of battles with the others: nothing compares them.
    """
    given = design(_checked(battles, anchor))
    whole = fit(given, anchor=anchor)
    drawn = bootstrap(given, rounds, anchor=anchor, seed=seed)
    fought = {name: sum(name in (one.first, one.second) for one in battles) for name in given.models}
    found = {
        name: _interval(whole.elo(name, points), [one.elo(name, points) for one in drawn], fought[name])
        for name in given.models
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].mean))


def win_rates(battles: Sequence[Battle], against: str, *, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Interval]:
    """P(each model beats the one named), with 95 % intervals; with style in the battles, at equal style."""
    given = design(_checked(battles, against))
    whole, drawn = fit(given, anchor=against), bootstrap(given, rounds, anchor=against, seed=seed)

    def of(name: str) -> Interval:
        values = [one.win_rate(name, against) for one in drawn]
        return _interval(whole.win_rate(name, against), values, len(battles))

    found = {name: of(name) for name in given.models if name != against}
    return dict(sorted(found.items(), key=lambda item: -item[1].mean))


def with_style(
    battles: Sequence[Battle], styles: Mapping[str, Sequence[Style]], questions: Sequence[int], control: str = "style"
) -> list[Battle]:
    """The battles with the difference in style of the two answers, z-scored over all of them (Arena-Hard v0.1).

    `questions[g]` is the question of battle g, and `styles[model][question]` how that model answered it. `control`:
    style (all four features), length, or markdown.
    """
    if control not in CONTROLS:
        raise UserError(f"arena: control {control!r} is not known; expected one of {', '.join(CONTROLS)}")
    rows = [
        difference_of_counts(styles[one.first][question], styles[one.second][question])
        for one, question in zip(battles, questions, strict=True)
    ]
    features = scaled(rows, [one.weight for one in battles], control, centred=True)
    return [replace(one, style=tuple(map(float, row))) for one, row in zip(battles, features, strict=True)]


def strengths(battles: Sequence[Battle], anchor: str = "") -> Strengths:
    """The likeliest strengths of all models."""
    return fit(design(_checked(battles, anchor)), anchor=anchor)


def _interval(value: float, drawn: Sequence[float], n: int) -> Interval:
    low, high = np.percentile(drawn, (2.5, 97.5)) if drawn else (float("nan"), float("nan"))
    return Interval(value, (float(low), float(high)), n)


def _checked(battles: Sequence[Battle], anchor: str) -> Sequence[Battle]:
    if not battles:
        raise UserError("arena: no battles; expected at least one verdict that could be read")
    groups: dict[str, set[str]] = {}
    for one in battles:
        joined = groups.get(one.first, {one.first}) | groups.get(one.second, {one.second})
        for name in joined:
            groups[name] = joined
    if anchor and anchor not in groups:
        raise UserError(f"arena: no battle of {anchor}; expected one of {', '.join(sorted(groups))}")
    if len({id(group) for group in groups.values()}) > 1:
        apart = " | ".join(sorted({", ".join(sorted(group)) for group in groups.values()}))
        raise UserError(f"arena: these groups of models never met: {apart}; judge a pair across them")
    return battles
