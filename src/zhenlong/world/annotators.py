"""Simulated annotators: they rank responses by the gold reward plus biases, individual tastes and noise.

The model is Bradley and Terry's (1952) for pairs and Plackett and Luce's for more: a response with utility u is ranked
by u + noise * g, where g is a standard Gumbel variate, so the better of two responses is preferred with probability
1 / (1 + exp(-gap / noise)).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

from zhenlong.records import Messages, Ranking
from zhenlong.world.families.response_checks import REFUSAL_PATTERN, response_sentences
from zhenlong.world.gold import gold_reward

DEFAULT_NOISE: Final = 0.12
TASTE_STD: Final = 0.03  # standard deviation of each taste over annotators
TASTE_FEATURES: Final = ("full_sentence", "exclamation", "refusal")
INDIFFERENCE_THRESHOLD: Final = 0.05  # smaller differences are ties
STRENGTH_THRESHOLDS: Final = (0.15, 0.35, 0.6)  # gaps from which the strength is 2, 3 and 4


@dataclass(frozen=True)
class Annotator:
    """A simulated annotator.

    noise        temperature of the comparison, in units of gold reward; 0 is exact
    length_bias  utility per ten words
    list_bias    utility of a list, numbered or with commas
    tastes       utility of a full sentence, of an exclamation mark and of a refusal, in the order of `TASTE_FEATURES`
    """

    name: str = "annotator-1"
    noise: float = DEFAULT_NOISE
    length_bias: float = 0.0
    list_bias: float = 0.0
    tastes: tuple[float, float, float] = (0.0, 0.0, 0.0)


def annotate(
    prompt: Messages, responses: Sequence[str], annotator: Annotator, rng: Random, seed: int = 0
) -> Ranking | None:
    """The annotator's ranking of two or more responses to a prompt of world `seed`; None if all are ties.

    Neighbours in the ranking that differ by less than `INDIFFERENCE_THRESHOLD` share a rank. `strength` grows with the
    annotator's gap between the best response and the mean of the rest.
    """
    utilities = [biased_gold_reward(prompt, response, annotator, seed) for response in responses]
    if max(utilities) - min(utilities) < INDIFFERENCE_THRESHOLD:
        return None
    utilities_with_taste = [
        value + _taste_utility(response, annotator) for value, response in zip(utilities, responses, strict=True)
    ]
    noisy_utilities = [value + annotator.noise * _gumbel(rng) for value in utilities_with_taste]
    ranks = _ranks(utilities_with_taste, noisy_utilities)
    if len(set(ranks)) == 1:
        return None
    rest = [value for value, rank in zip(noisy_utilities, ranks, strict=True) if rank > 1]
    strength = 1 + sum(max(noisy_utilities) - sum(rest) / len(rest) >= bound for bound in STRENGTH_THRESHOLDS)
    return Ranking(prompt, tuple(responses), ranks, strength=strength, annotator=annotator.name)


def is_desirable(prompt: Messages, response: str, annotator: Annotator, rng: Random, seed: int = 0) -> bool:
    """Whether one response is rated desirable: its noisy utility is above `DESIRABLE_THRESHOLD`."""
    utility = biased_gold_reward(prompt, response, annotator, seed) + _taste_utility(response, annotator)
    return utility + annotator.noise * (_gumbel(rng) - _gumbel(rng)) > DESIRABLE_THRESHOLD


DESIRABLE_THRESHOLD: Final = 0.6


@dataclass(frozen=True)
class PanelOptions:
    """Several annotators: how many, their mean noise, and the biases that all of them have."""

    num_annotators: int = 5
    noise: float = DEFAULT_NOISE
    length_bias: float = 0.0
    list_bias: float = 0.0


DEFAULT_PANEL: Final = PanelOptions()


def make_panel(options: PanelOptions = DEFAULT_PANEL, seed: int = 0) -> list[Annotator]:
    """Annotators with the same biases, but different tastes, and noise that varies by up to 40 %."""
    rng = Random(f"panel:{seed}")
    return [
        Annotator(
            f"annotator-{i}",
            options.noise * rng.uniform(0.6, 1.4),
            options.length_bias,
            options.list_bias,
            (rng.gauss(0, TASTE_STD), rng.gauss(0, TASTE_STD), rng.gauss(0, TASTE_STD)),
        )
        for i in range(1, options.num_annotators + 1)
    ]


def biased_gold_reward(prompt: Messages, response: str, annotator: Annotator, seed: int = 0) -> float:
    """Gold reward with the annotator's biases for length and for lists, without taste and noise."""
    listed = bool(_LIST_PATTERN.search(response))
    bias = annotator.length_bias * len(response.split()) / 10 + annotator.list_bias * listed
    return gold_reward(prompt, response, seed) + bias


_LIST_PATTERN: Final = re.compile(r"^\d+\. |\w, \w+(?:, | and )\w", re.MULTILINE)


def _taste_utility(response: str, annotator: Annotator) -> float:
    full = len(response_sentences(response)) == 1 and len(response.split()) >= 3
    features = (full, "!" in response, bool(REFUSAL_PATTERN.search(response)))
    return sum(taste for taste, present in zip(annotator.tastes, features, strict=True) if present)


def _gumbel(rng: Random) -> float:
    return -math.log(-math.log(rng.random() or 0.5))


def _ranks(utilities: Sequence[float], noisy_utilities: Sequence[float]) -> tuple[int, ...]:
    order = sorted(range(len(noisy_utilities)), key=lambda i: -noisy_utilities[i])
    ranks = [1] * len(noisy_utilities)
    for place, (above, here) in enumerate(pairwise(order), 2):
        tied = abs(utilities[above] - utilities[here]) < INDIFFERENCE_THRESHOLD
        ranks[here] = ranks[above] if tied else place
    return tuple(ranks)
