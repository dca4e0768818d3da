"""Reward modelling: pairwise losses on the scores of preferred and rejected responses.

R responses have `scores [R]`; P pairs index two of them each: `chosen [P]`, `rejected [P]`. The pairs of one K-way
ranking share its K scores, so each response is computed once however many pairs it belongs to.
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
    """-Σ w log σ(r_chosen - r_rejected - m): the negative log-likelihood of the Bradley-Terry model.

    `weight [P]` is 1 when not given; with `pair_weights` each ranking counts once (InstructGPT, Eq. 1, Ouyang
    et al. 2022) and is divided by the step's rankings, otherwise by its pairs. `margin [P]` is subtracted from the
    difference (Llama 2, Eq. 2, Touvron et al. 2023; see `strength_margin`). `label_smoothing` is the assumed
    probability that a label is flipped.

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
    """1 / (number of pairs of its ranking) for each pair -> [P] float32; `ranking [P]` is an id of the ranking.

    For K distinct ranks that is 1 / C(K, 2) (InstructGPT, Eq. 1). All pairs of a ranking share a prompt, so they are in
    one micro-batch.
    """
    _, index, count = ranking.unique(return_inverse=True, return_counts=True)
    return 1.0 / count[index].float()


def strength_margin(strength: Tensor, max_margin: float = 1.0) -> Tensor:
    """The margin m(r) of a pair, from the four-level scale 1 (negligibly) .. 4 (significantly better) -> [P].

    Linear from 0 to `max_margin`: Llama 2's small margin is `max_margin=1` (0, 1/3, 2/3, 1), its large one
    `max_margin=3` (Table 27, Touvron et al. 2023).
    """
    return max_margin * (strength.float() - 1.0) / 3.0


def reward_centering_loss(scores: Tensor, chosen: Tensor, rejected: Tensor, weight: Tensor | None = None) -> Tensor:
    """Σ w (r_chosen + r_rejected)^2, which keeps rewards centred at zero -> scalar, to be multiplied by a small
    coefficient.

    The Bradley-Terry loss depends on differences only, so the level of rewards is free (Eisenstein et al. 2023, §2).
    """
    squares = (scores[chosen] + scores[rejected]) ** 2
    return (squares if weight is None else weight * squares).sum()
