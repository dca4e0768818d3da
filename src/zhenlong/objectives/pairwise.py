"""Reward modelling: scores of responses against which of them people preferred.

R responses have `scores [R]`; P pairs name two of them by index: `chosen [P]`, `rejected [P]`. Pairs of one K-way
ranking share its K scores, so each response is computed once however many pairs it is in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry_loss(
    scores: Tensor,
    chosen: Tensor,
    rejected: Tensor,
    *,
    weight: Tensor | None = None,
    margin: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """-Σ w log σ(r_chosen - r_rejected - m): the chosen response wins with the Bradley-Terry probability.

    `weight [P]` is 1 when not given; with `pair_weights` the sum counts each ranking once (InstructGPT, Eq. 1, Ouyang
    et al. 2022) and is divided by the step's rankings, otherwise by its pairs. `margin [P]` is subtracted from the
    difference (Llama 2, Eq. 2, Touvron et al. 2023; see `strength_margin`). `label_smoothing` is the assumed
    probability that an annotator meant the opposite.

    Returns the sum (scalar) and weighted sums over pairs: `accuracy` (a tie counts one half) and `margin`
    (r_chosen - r_rejected, in reward units).
    """
    difference = scores[chosen] - scores[rejected]  # [P]
    weight = torch.ones_like(difference) if weight is None else weight.to(difference.dtype)
    logit = difference if margin is None else difference - margin
    losses = -(1.0 - label_smoothing) * logsigmoid(logit) - label_smoothing * logsigmoid(-logit)
    with torch.no_grad():
        correct = (difference > 0).to(difference.dtype) + 0.5 * (difference == 0).to(difference.dtype)
        metrics = {"accuracy": (weight * correct).sum(), "margin": (weight * difference).sum()}
    return (weight * losses).sum(), metrics


def pair_weights(ranking: Tensor) -> Tensor:
    """1 / (number of pairs of its ranking) for each pair -> [P] float32; `ranking [P]` is any id of the ranking.

    For K distinct ranks that is 1 / C(K, 2) (InstructGPT, Eq. 1). The ids are those of this micro-batch: a ranking's
    pairs share a prompt, so they are in one micro-batch.
    """
    _, index, count = ranking.unique(return_inverse=True, return_counts=True)
    return 1.0 / count[index].float()


def strength_margin(strength: Tensor, max_margin: float = 1.0) -> Tensor:
    """The margin m(r) asked of a pair, from the four-level scale 1 (negligibly) .. 4 (significantly better) -> [P].

    Linear from 0 to `max_margin`: Llama 2's small margin is `max_margin=1` (0, 1/3, 2/3, 1), its large one
    `max_margin=3` (Table 27, Touvron et al. 2023).
    """
    return max_margin * (strength.float() - 1.0) / 3.0


def reward_centering_loss(scores: Tensor, chosen: Tensor, rejected: Tensor, weight: Tensor | None = None) -> Tensor:
    """Σ w (r_chosen + r_rejected)^2, which keeps rewards around zero -> scalar, to be multiplied by a small
    coefficient.

    Bradley-Terry sees differences only and leaves the level of the rewards free (Eisenstein et al. 2023, §2).
    """
    squares = (scores[chosen] + scores[rejected]) ** 2
    return (squares if weight is None else weight * squares).sum()
