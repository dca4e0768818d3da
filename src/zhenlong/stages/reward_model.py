"""Reward modelling: one score for a whole answer, learned from which answers people preferred.

Every ranking is one tree, the prompt with its K responses, so each is computed once however many pairs it is in, and
all pairs of a ranking are in one batch element (Ouyang et al. 2022, §3.5: otherwise they overfit). The score is read
at the response's last token, the end-of-turn token, in training and in scoring alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel
from typing_extensions import Unpack

from zhenlong.data.options import DataOptions
from zhenlong.data.pair_template import reward_model_template
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.reward_report import reward_report
from zhenlong.forest import Microbatch, make_microbatches, score_forest
from zhenlong.loop import Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import save_model
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.pairwise import bradley_terry_loss, pair_weights, reward_centering_loss, strength_margin
from zhenlong.options import take_options
from zhenlong.options.keywords import LikelihoodKwargs
from zhenlong.records import Ranking
from zhenlong.stages.prepare_data import pair_indices, ranking_trees, read_heldout, read_training_data
from zhenlong.stages.stage_steps import load_for_training, optimizer_step, prepare_for_saving, resolve_length_limit


@dataclass(frozen=True)
class RankingLossSettings:
    """What the loss of a ranking adds to Bradley-Terry; see `reward_model` for each."""

    margin: float
    center_rewards: float
    label_smoothing: float

    def __post_init__(self) -> None:
        for name in ("margin", "center_rewards"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name}: expected a finite number of 0 or more, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 0.5:
            raise UserError(f"label_smoothing: expected a number in [0, 0.5), got {self.label_smoothing}")


def reward_model(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    margin: float = 0.0,
    center_rewards: float = 0.0,
    label_smoothing: float = 0.0,
    **options: Unpack[LikelihoodKwargs],
) -> Path:
    """Train a reward model on rankings.

    Args:
        model: Model to start from, as a rule the SFT model, or an encoder such as BERT; pocket, a folder or a hub id.
        data: Rankings, with strengths where a margin is asked: files, hf:owner/name or world:rankings; several with
            weights as `a.jsonl*0.7,b*0.3`.
        heldout: Rankings to measure accuracy, calibration and the reward's tie to length on.
        margin: Reward difference asked of a `significantly better` pair; less for weaker ones; 0 asks for none.
        center_rewards: Coefficient that pulls the mean reward of a pair to zero; 0.01 is usual; 0 turns it off.
        label_smoothing: Assumed probability that an annotator meant the opposite.

    Returns the run folder. Equation: L = -1/C(K,2) Σ log σ(r_i - r_j - m) over pairs i better than j.
    """
    config = dict(locals())
    data_options, model_options, training = take_options(
        options,
        DataOptions(),
        ModelOptions(),
        TrainingOptions(lr=1e-5, warmup_steps=0.03),
    )
    settings = RankingLossSettings(margin, center_rewards, label_smoothing)
    if training.evaluate_every:
        raise UserError(
            f"evaluate_every: expected 0, for a reward model answers nothing, got {training.evaluate_every}"
        )
    with Run(
        output, config, training, name="reward_model", model_options=model_options, other_options=(data_options,)
    ) as run:
        if run.finished:
            return run.output
        rankings, order = read_training_data(run, data, Ranking, training)
        heldout_rankings = read_heldout(run, heldout, Ranking)
        if margin:
            _require_strengths(run, data, rankings)
        network, tokenizer = load_for_training(run, model, "reward")
        template = reward_model_template(tokenizer, data_options.template_spec)
        trees, rankings, order = ranking_trees(
            run, rankings, order, template, resolve_length_limit(network, data_options)
        )
        total = training.total_steps(order.epoch_size)
        learner = Learner(network, training, total, dtype=run.dtype)
        run.track(learner=learner, order=order)
        for _ in run.steps(total):
            rows = order.draw(training.batch_size)
            step_rankings = [rankings[row] for row in rows]
            batches = make_microbatches([trees[row] for row in rows], training.tokens_per_microbatch, run.device)
            loss = partial(ranking_loss, network, step_rankings, settings)
            run.log(optimizer_step(run, learner, batches, loss, len(rows), rows))
        results = (
            reward_report((network, tokenizer), heldout_rankings, chat_template=data_options.template_spec)
            if heldout_rankings
            else {}
        )
        return run.finish(*prepare_for_saving(network, template), save_model, results)


def ranking_loss(
    network: PreTrainedModel,
    rankings: Sequence[Ranking],
    settings: RankingLossSettings,
    batch: Microbatch,
) -> StepLoss:
    """Bradley-Terry over all pairs of the micro-batch's rankings, each ranking counting once."""
    rewards = score_forest(network, batch.forest)  # [R]
    chosen, rejected, ranking_index = pair_indices([rankings[row] for row in batch.tree_indices], rewards.device)
    weights = pair_weights(ranking_index)
    margins = None
    if settings.margin:
        strengths = [rankings[row].strength or 1 for row in batch.tree_indices]
        margins = strength_margin(torch.tensor(strengths, device=rewards.device)[ranking_index], settings.margin)
    total, metrics = bradley_terry_loss(
        rewards, chosen, rejected, weight=weights, margin=margins, label_smoothing=settings.label_smoothing
    )
    if settings.center_rewards:
        total = total + settings.center_rewards * reward_centering_loss(rewards, chosen, rejected, weights)
    return StepLoss(total, {**metrics, "reward": (rewards.detach().sum(), float(len(rewards)))})


def _require_strengths(run: Run, data: str, rankings: Sequence[Ranking]) -> None:
    """Refuse a margin that no ranking's strength would set; count the rankings that are asked for none."""
    without = sum(ranking.strength is None for ranking in rankings)
    if without == len(rankings):
        raise UserError(
            f"margin: {data} has no strengths, and the margin of a pair follows from its strength; expected rankings "
            "with a strength of 1 to 4, or margin 0"
        )
    if without:
        run.write_note("missing_strength.json", {"rankings": len(rankings), "missing_strength": without})
