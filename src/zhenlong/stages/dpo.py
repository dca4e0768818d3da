"""Direct preference optimisation: learn from rankings without a reward model and without sampling.

The reference is the policy as it began (or another model); its log-probabilities never change, so they are computed
once and kept on disk under a hash of model and data. SimPO and ORPO have none. A prompt and its responses are one tree:
the prompt is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate
from zhenlong.data.options import DataOptions
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.text_metrics import preference_accuracy
from zhenlong.forest import Microbatch, forward, log_probs, make_microbatches
from zhenlong.loop import Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import load_model, save_model
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.preference import (
    REFERENCE_FREE,
    PreferenceLogProbs,
    PreferenceSettings,
    preference_loss,
)
from zhenlong.objectives.reduce import sum_per_response, tokens_per_response
from zhenlong.options import take_options
from zhenlong.options.keywords import DpoKwargs
from zhenlong.records import Ranking
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.heldout_curve import HeldoutCurve
from zhenlong.stages.options import HeldoutOptions, ReferenceOptions
from zhenlong.stages.prepare_data import pair_indices, ranking_trees, read_heldout, read_training_data
from zhenlong.stages.reference import cached_reference_log_probs
from zhenlong.stages.sample_logging import log_samples
from zhenlong.stages.stage_steps import load_for_training, optimizer_step, prepare_for_saving, resolve_length_limit

DPOLoss = Literal["sigmoid", "sigmoid_norm", "robust", "ipo", "hinge", "apo_zero", "apo_down", "simpo", "orpo"]


def dpo(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    beta: float = 0.1,
    loss: DPOLoss = "sigmoid",
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
    sft_weight: float | None = None,
    sft_aggregation: Literal["sequence", "token"] = "sequence",
    **options: Unpack[DpoKwargs],
) -> Path:
    """Optimise a policy on rankings directly.

    Args:
        data: Rankings: files, hf:owner/name or world:rankings; several with weights as `a.jsonl*0.7,b*0.3`.
        heldout: Rankings to measure the accuracy of the implicit reward on.
        beta: Strength of the pull to the reference; lower lets the policy go further. simpo and sigmoid_norm, which
            compare means over tokens, take 2 to 10; for orpo it is the weight of the odds ratio.
        loss: sigmoid (DPO; with label_smoothing cDPO), sigmoid_norm, robust, ipo, hinge, apo_zero, apo_down, or without
            a reference simpo or orpo.
        label_smoothing: Assumed probability that a preference is the wrong way round.
        gamma: Margin that simpo asks for, about beta / 2.
        sft_weight: Weight of the chosen response's mean negative log-probability beside the loss; none takes 1 for orpo
            and 0 for the others.
        sft_aggregation: That mean is over each response (sequence), or all chosen tokens of the step (token), where
            long responses count more, as in sft and in TRL's loss of that name.

    Returns the run folder. Equation: L = -log σ(β [log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l)]), the mean over pairs
    (Eq. 7, Rafailov et al. 2023); log-probabilities are summed over the response's tokens.
    """
    config = dict(locals())
    data_options, frozen, heldout_options, model_options, training = take_options(
        options,
        DataOptions(),
        ReferenceOptions(),
        HeldoutOptions(),
        ModelOptions(),
        TrainingOptions(lr=1e-6, warmup_steps=0.1),
    )
    effective_sft_weight = (1.0 if loss == "orpo" else 0.0) if sft_weight is None else sft_weight
    settings = PreferenceSettings(beta, loss, label_smoothing, gamma, effective_sft_weight)
    if sft_aggregation not in ("sequence", "token"):
        raise UserError(f"sft_aggregation: expected sequence or token, got {sft_aggregation!r}")
    if loss in REFERENCE_FREE and (frozen.reference or frozen.reference_cache):
        raise UserError(f"reference, reference_cache: {loss} compares with no reference; leave them empty")
    with Run(
        output,
        config,
        training,
        name="dpo",
        model_options=model_options,
        other_options=(data_options, frozen, heldout_options),
    ) as run:
        if run.finished:
            return run.output
        rankings, order = read_training_data(run, data, Ranking, training)
        heldout_rankings = read_heldout(run, heldout, Ranking)
        policy, tokenizer = load_for_training(run, model, dropout=False)
        template = ChatTemplate.from_tokenizer(tokenizer, data_options.template_spec)
        trees, rankings, order = ranking_trees(
            run, rankings, order, template, resolve_length_limit(policy, data_options)
        )
        reference_log_probs = [
            torch.zeros(len(one.responses)) for one in rankings
        ]  # not read by losses without a reference
        if loss not in REFERENCE_FREE:
            cache = Path(frozen.reference_cache or run.output / "reference")
            reference_log_probs = cached_reference_log_probs(run, frozen.reference or policy, tokenizer, trees, cache)
        total = training.total_steps(order.epoch_size)
        learner = Learner(policy, training, total, dtype=run.dtype)
        run.track(learner=learner, order=order)
        frozen_model = load_model(frozen.reference or model) if heldout_options.heldout_every else None

        def measure_heldout() -> dict[str, float]:
            found = preference_accuracy(
                (policy, tokenizer),
                heldout_rankings,
                reference=frozen_model,
                chat_template=data_options.template_spec,
            )
            return {"heldout_accuracy": found["accuracy"]["mean"]}

        curve = HeldoutCurve(run, heldout_options, heldout_rankings, policy, measure_heldout)
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), data_options.template_spec, curve):
            rows = order.draw(training.batch_size)
            step = StepRankings([rankings[row] for row in rows], [reference_log_probs[row] for row in rows])
            batches = make_microbatches([trees[row] for row in rows], training.tokens_per_microbatch, run.device)
            pairs = sum(len(ranking.pairs()) for ranking in step.rankings)
            if sft_aggregation == "token":
                step = replace(step, sft_tokens=sum(map(step.count_chosen_tokens, batches)) / pairs)
            run.log(optimizer_step(run, learner, batches, partial(pair_loss, policy, step, settings), pairs, rows))
            if run.should_sample():
                log_samples(run, policy, tokenizer, template, [one.prompt for one in rankings])
        curve.restore_best()
        results = {}
        if heldout_rankings:
            results = preference_accuracy(
                (policy, tokenizer),
                heldout_rankings,
                reference=frozen_model or frozen.reference or model,
                chat_template=data_options.template_spec,
            )
        run.finish(*prepare_for_saving(policy, template), save_model, results)
        curve.remove_best()
        return run.output


@dataclass(frozen=True)
class StepRankings:
    """The rankings of one optimiser step, each with the reference's log-probability of its K responses, [K].

    `sft_tokens` is the mean number of chosen tokens over the step's pairs, where the SFT term is a mean over tokens.
    """

    rankings: Sequence[Ranking]
    reference_log_probs: Sequence[torch.Tensor]
    sft_tokens: float | None = None

    def pairs(self, batch: Microbatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Which responses of the micro-batch are chosen [P] and rejected [P]."""
        rankings = [self.rankings[row] for row in batch.tree_indices]
        chosen, rejected, _ = pair_indices(rankings, batch.forest.response_index.device)
        return chosen, rejected

    def count_chosen_tokens(self, batch: Microbatch) -> int:
        """The tokens of the preferred response of each pair, summed over the micro-batch's pairs."""
        chosen, _ = self.pairs(batch)
        return int(tokens_per_response(batch.forest.response_index, batch.forest.num_responses)[chosen].sum())


def pair_loss(policy: PreTrainedModel, step: StepRankings, settings: PreferenceSettings, batch: Microbatch) -> StepLoss:
    """The preference loss summed over all pairs of the micro-batch's rankings, with the implicit rewards as metrics."""
    forest = batch.forest
    sums = sum_per_response(
        log_probs(policy, forward(policy, forest), forest), forest.response_index, forest.num_responses
    )  # [R]
    reference_sums = torch.cat([step.reference_log_probs[row] for row in batch.tree_indices]).to(sums.device)  # [R]
    tokens = tokens_per_response(forest.response_index, forest.num_responses)
    chosen, rejected = step.pairs(batch)
    pairs = PreferenceLogProbs(
        chosen=sums[chosen],
        rejected=sums[rejected],
        reference_chosen=reference_sums[chosen],
        reference_rejected=reference_sums[rejected],
        chosen_tokens=tokens[chosen],
        rejected_tokens=tokens[rejected],
    )
    result = preference_loss(pairs, settings, step.sft_tokens)
    margin = result.chosen_rewards - result.rejected_rewards
    metrics = {
        "accuracy": (margin > 0).float().sum(),
        "margin": margin.sum(),
        "chosen_reward": result.chosen_rewards.sum(),
        "rejected_reward": result.rejected_rewards.sum(),
        "chosen_log_prob": sums[chosen].detach().sum(),
    }
    return StepLoss(result.losses.sum(), metrics)
