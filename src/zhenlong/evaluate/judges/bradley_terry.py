"""The Bradley-Terry model (1952): strengths from pairwise battles, with style features as covariates.

P(a beats b) = sigmoid(strength_a - strength_b + coefficients . style). A tie is half a win for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from zhenlong.evaluate.statistics.bootstrap import FloatArray

ELO_PER_NAT: Final = 400 / np.log(10)  # Elo points of one nat of strength: base 10, scale 400


@dataclass(frozen=True)
class Battle:
    """One comparison: `score` is the first model's (1, 0.5 or 0), `style` its features minus the second's."""

    first: str
    second: str
    score: float
    weight: float = 1.0
    style: tuple[float, ...] = ()


@dataclass(frozen=True)
class BattleMatrix:
    """Battles as arrays. G battles, M models, F style features."""

    models: tuple[str, ...]
    x: FloatArray  # [G, M + F]: +1 for the first model, -1 for the second, then the style
    score: FloatArray  # [G]
    weight: FloatArray  # [G]


@dataclass(frozen=True)
class Strengths:
    """Strengths in nats relative to the anchor (without one, to their mean), and the style coefficients."""

    by_model: dict[str, float]
    style: tuple[float, ...] = ()

    def win_rate(self, model: str, against: str) -> float:
        """P(model beats the other) at equal style."""
        return float(expit(self.by_model[model] - self.by_model[against]))

    def elo(self, model: str, anchor_points: float = 1000.0) -> float:
        """The strength in Elo points, with the anchor at `anchor_points`."""
        return float(anchor_points + ELO_PER_NAT * self.by_model[model])


def battle_matrix(battles: Sequence[Battle]) -> BattleMatrix:
    """The design matrix of the battles. Models are sorted by name."""
    models = tuple(sorted({name for one in battles for name in (one.first, one.second)}))
    place = {name: number for number, name in enumerate(models)}
    features = len(battles[0].style) if battles else 0
    x = np.zeros((len(battles), len(models) + features))
    for row, one in enumerate(battles):
        x[row, place[one.first]] += 1
        x[row, place[one.second]] -= 1
        x[row, len(models) :] = one.style
    return BattleMatrix(models, x, np.array([one.score for one in battles]), np.array([one.weight for one in battles]))


def fit_bradley_terry(
    given: BattleMatrix,
    *,
    anchor: str = "",
    penalty: tuple[float, float] = (0.0, 0.0),
    weight: FloatArray | None = None,
) -> Strengths:
    """The maximum-likelihood strengths and style coefficients, by L-BFGS.

    `penalty` multiplies half the squared strengths, and half the squared style coefficients; `weight` [G] replaces the
    battles' own. Without a penalty, a model that won or lost every game has no finite strength: the search stops when
    the likelihood no longer changes, at a win rate close to 1 or 0.
    """
    weights = given.weight if weight is None else weight
    total = max(float(weights.sum()), 1e-12)
    models = len(given.models)
    penalties = np.concatenate([np.full(models, penalty[0]), np.full(given.x.shape[1] - models, penalty[1])])

    def loss(beta: FloatArray) -> tuple[float, FloatArray]:
        logits = given.x @ beta
        value = weights @ (np.logaddexp(0, logits) - given.score * logits) + 0.5 * penalties @ beta**2
        slope = given.x.T @ (weights * (expit(logits) - given.score)) + penalties * beta
        return float(value) / total, slope / total

    start = np.zeros(given.x.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-8, "ftol": 1e-13})
    strengths = found.x[:models]
    zero = strengths[given.models.index(anchor)] if anchor else strengths.mean()
    named = {name: float(value - zero) for name, value in zip(given.models, strengths, strict=True)}
    return Strengths(named, tuple(float(value) for value in found.x[models:]))


def bootstrap_strengths(
    given: BattleMatrix,
    num_resamples: int,
    *,
    anchor: str = "",
    penalty: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    repeat_by_weight: bool = False,
) -> list[Strengths]:
    """Fits to battles resampled with replacement; `repeat_by_weight` repeats each in the pool by its weight.

    A model that was not sampled has strength 0 before the anchor's is subtracted.
    """
    rng = np.random.default_rng(seed)
    n = len(given.score)
    pool = np.repeat(np.arange(n), given.weight.astype(int)) if repeat_by_weight else np.arange(n)
    own = np.ones(n) if repeat_by_weight else given.weight
    found = []
    for _ in range(num_resamples):
        drawn = np.bincount(pool[rng.integers(0, len(pool), len(pool))], minlength=n)
        found.append(fit_bradley_terry(given, anchor=anchor, penalty=penalty, weight=own * drawn))
    return found
