"""AlpacaEval's length-controlled win rate: the judge's preference at equal length (Dubois et al. 2024).

P(model preferred) = sigmoid(a tanh((len_baseline - len_model) / sd) + b difficulty + c), fitted by logistic regression
with an L1 penalty chosen by five-fold cross-validation; the win rate is the mean prediction with a = 0.
tatsu-lab/alpaca_eval:src/alpaca_eval/metrics/glm_winrate.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from zhenlong.data.sources import iter_source_rows
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics.bootstrap import FloatArray, percentile_bounds
from zhenlong.evaluate.statistics.intervals import Interval

C_VALUES: Final = np.logspace(-4, 4, 10)  # LogisticRegressionCV's defaults for C
FOLDS, SEED = 5, 123
GAMED_WEIGHT: Final = 0.2 / 2  # weight of the rows of the two baselines with gamed lengths
MIN_PREFERENCES: Final = 10  # with fewer preferences nothing is fitted
LENGTH_CONTROL_RESAMPLES: Final = 100
# Mean and standard deviation of a's prior where difficulty is not known, chosen on 56 models' published annotations
# (GPT-4 Turbo as judge): the rate is within 3.0 points of the published one for each.
PUBLISHED_LENGTH_EFFECT: Final = (-1.1, 0.12)
NEWTON_STEPS: Final = 50


@dataclass(frozen=True)
class GamedBaselines:
    """Upstream's `df_gamed.csv`: concise and verbose versions of the baseline, and each instruction's difficulty."""

    preference: FloatArray  # [K], from 0 to 1
    delta: FloatArray  # [K], the difference in length in units of its standard deviation
    difficulty: FloatArray  # [K]
    difficulty_by_instruction: Mapping[int, float]


@cache
def read_gamed_baselines(source: str) -> GamedBaselines:
    """Read a local copy of `df_gamed.csv` (hub tatsu-lab/alpaca_eval). Raises `UserError` for any other file."""
    rows = []
    for row in iter_source_rows(source):
        try:
            values = [float(row.fields[name]) for name in ("index", "preference", "std_delta_len")]
            rows.append((*values, float(row.fields["instruction_difficulty"])))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{row.location}: {error}; expected a row of AlpacaEval's df_gamed.csv") from None
    index, preference, delta, difficulty = np.array(rows).T
    known = preference == preference
    by_index = dict(zip(index.astype(int).tolist(), difficulty.tolist(), strict=True))
    return GamedBaselines(preference[known], delta[known], difficulty[known], by_index)


def length_controlled_win_rate(
    preferences: Sequence[float],
    lengths: Sequence[tuple[int, int]],
    instructions: Sequence[int] = (),
    gamed: GamedBaselines | None = None,
    seed: int = 0,
    length_effect: tuple[float, float] | None = PUBLISHED_LENGTH_EFFECT,
) -> Interval | None:
    """The win rate at equal length, in per cent, with a 95 % interval; None for fewer than ten preferences.

    `preferences` are from 0 to 1 (1: the model), `lengths` the characters of the model's and the baseline's responses.
    With `gamed`, the difficulties of the `instructions` are a feature and its rows enter the fit, as upstream; without,
    both are left out (b = 0), because difficulty cannot be estimated from one model. Then a and c are hard to separate
    where nearly all responses are shorter than the baseline's, so a has a normal prior `length_effect` (mean, standard
    deviation); with None it is fitted like upstream's, which is off by up to 27 points for short responses. The
    interval is from 100 bootstrap resamples of the instructions; upstream reports none.
    """
    preferred = np.asarray(preferences, dtype=np.float64)
    if len(preferred) < MIN_PREFERENCES:
        return None
    delta = np.array([baseline - model for model, baseline in lengths], dtype=np.float64)
    spread = delta.std(ddof=1)
    x = np.zeros((len(delta), 3))
    x[:, 0] = np.tanh(delta / spread) if spread > 0 else 0.0
    x[:, 2] = 1.0
    rng = np.random.default_rng(seed)
    if gamed is None and length_effect is not None:
        return _rate_with_prior(x[:, 0], preferred, length_effect, rng)
    extra_x, extra_y = np.zeros((0, 3)), np.zeros(0)
    if gamed is not None:
        x[:, 1] = [_difficulty(gamed, index) for index in instructions]
        extra_x = np.stack([np.tanh(gamed.delta), gamed.difficulty, np.zeros_like(gamed.delta)], 1)
        extra_y = gamed.preference
    weight = np.concatenate([np.full(len(extra_y), GAMED_WEIGHT), np.ones(len(x))])
    all_x, all_y = np.concatenate([extra_x, x]), np.concatenate([extra_y, preferred])
    inverse_penalty = cross_validated_inverse_penalty(all_x, all_y, weight)
    rate = _rate(x, fit_logistic_regression(all_x, all_y, weight, inverse_penalty))
    drawn = []
    for _ in range(LENGTH_CONTROL_RESAMPLES):
        counts = np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x)).astype(np.float64)
        own = np.concatenate([weight[: len(extra_y)], counts])
        drawn.append(_rate(x, fit_logistic_regression(all_x, all_y, own, inverse_penalty), counts))
    return Interval(rate, percentile_bounds(drawn, len(preferred)), len(preferred))


def fit_with_prior(x: FloatArray, y: FloatArray, weight: FloatArray, prior: tuple[float, float]) -> FloatArray:
    """The most probable (a, c) of P = sigmoid(a x + c), a with a normal prior (mean, standard deviation); by Newton."""
    mean, deviation = prior
    design = np.stack([x, np.ones_like(x)], 1)
    found = np.array([mean, 0.0])
    for _ in range(NEWTON_STEPS):
        p = predict_preference(design, found)
        gradient = design.T @ (weight * (p - y))
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        gradient[0] += (found[0] - mean) / deviation**2
        curvature[0, 0] += 1 / deviation**2
        step = np.linalg.solve(curvature, gradient)
        found = found - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    return found


def _rate_with_prior(x: FloatArray, y: FloatArray, prior: tuple[float, float], rng: np.random.Generator) -> Interval:
    def rate(weight: FloatArray) -> float:
        return float(100 / (1 + np.exp(-fit_with_prior(x, y, weight, prior)[1])))

    counts = [np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x)) for _ in range(LENGTH_CONTROL_RESAMPLES)]
    low, high = np.percentile([rate(one.astype(np.float64)) for one in counts], (2.5, 97.5))
    return Interval(rate(np.ones(len(x))), (float(low), float(high)), len(x))


def cross_validated_inverse_penalty(x: FloatArray, y: FloatArray, weight: FloatArray) -> float:
    """The C with the lowest weighted log loss on held-out rows over five folds; the smallest of ties.

    As scikit-learn's LogisticRegressionCV with upstream's scorer for probabilities as labels.
    """
    from sklearn.model_selection import GroupKFold  # slow to import, like the next; needed only here

    losses = np.zeros(len(C_VALUES))
    twice = np.tile(np.arange(len(y)), 2)
    for train, held in GroupKFold(FOLDS).split(np.concatenate([x, x]), groups=twice):
        rows, tests = twice[train[train < len(y)]], held[held < len(y)]
        for place, strength in enumerate(C_VALUES):
            p = np.clip(
                predict_preference(x[tests], fit_logistic_regression(x[rows], y[rows], weight[rows], strength)),
                1e-15,
                1 - 1e-15,
            )
            losses[place] -= np.mean(weight[tests] * (y[tests] * np.log(p) + (1 - y[tests]) * np.log(1 - p)))
    return float(C_VALUES[int(np.argmin(losses))])


def fit_logistic_regression(x: FloatArray, y: FloatArray, weight: FloatArray, inverse_penalty: float) -> FloatArray:
    """Coefficients [3] for probabilities y as labels: each row enters as 1 with weight y and as 0 with 1 - y."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=inverse_penalty, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=SEED, tol=1e-4
    )
    labels = np.concatenate([np.ones(len(y)), np.zeros(len(y))])
    model.fit(np.concatenate([x, x]), labels, sample_weight=np.concatenate([weight * y, weight * (1 - y)]))
    coefficients: FloatArray = model.coef_[0]
    return coefficients


def predict_preference(x: FloatArray, coefficients: FloatArray) -> FloatArray:
    """P(model preferred)."""
    p: FloatArray = 1 / (1 + np.exp(-(x @ coefficients)))
    return p


def _rate(x: FloatArray, coefficients: FloatArray, weight: FloatArray | None = None) -> float:
    equal = x.copy()
    equal[:, 0] = 0.0
    return float(100 * np.average(predict_preference(equal, coefficients), weights=weight))


def _difficulty(gamed: GamedBaselines, index: int) -> float:
    if index not in gamed.difficulty_by_instruction:
        raise UserError(f"df_gamed.csv: no difficulty for instruction {index}; expected the 805 rows of AlpacaEval")
    return gamed.difficulty_by_instruction[index]
