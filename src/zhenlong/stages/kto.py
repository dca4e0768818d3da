"""KTO: learn from single responses labelled desirable or undesirable, where nobody compared two answers.

Each response is held against a baseline: how much more probable the policy has made responses in general. That is
estimated on mismatched pairs, each prompt of a step with the response of the one before it, without gradient and over
the whole step. The order of the data is known from the seed, so the reference's side of these pairs is computed before
training, beside that of the data, and the reference is never in memory with the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate
from zhenlong.data.options import DataOptions
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.rating_auc import rating_auc
from zhenlong.forest import Microbatch, TreeNode, forward, log_probs, make_microbatches, make_tree
from zhenlong.forest.scoring import log_prob_sums
from zhenlong.loop import Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import save_model
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.kto import KTOSettings, kl_baseline, kto_loss, mismatched
from zhenlong.objectives.reduce import sum_per_response
from zhenlong.options import take_options
from zhenlong.options.keywords import PreferenceKwargs
from zhenlong.records import Rating
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.options import ReferenceOptions
from zhenlong.stages.prepare_data import rating_trees, read_heldout, read_training_data
from zhenlong.stages.reference import cached_reference_log_probs
from zhenlong.stages.sample_logging import log_samples
from zhenlong.stages.stage_steps import load_for_training, optimizer_step, prepare_for_saving, resolve_length_limit


def kto(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    beta: float = 0.1,
    loss: Literal["kto", "apo_zero"] = "kto",
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    **options: Unpack[PreferenceKwargs],
) -> Path:
    """Optimise a policy on single responses labelled desirable or undesirable.

    Args:
        data: Ratings: files, hf:owner/name or world:ratings; several with weights as `a.jsonl*0.7,b*0.3`. Rankings are
            read as ratings too, the best responses desirable and the worst undesirable.
        heldout: Ratings to measure on how far the implicit reward tells them apart.
        beta: Strength of the pull to the reference; lower lets the policy go further.
        loss: kto, or apo_zero, which has no baseline.
        desirable_weight: Weight of the desirable responses.
        undesirable_weight: Weight of the undesirable responses.

    Returns the run folder. Equation: L = λ (1 - σ(±β [log π(y)/π_ref(y) - z])), + and λ_D if desirable, - and λ_U if
    undesirable, the mean over ratings; z the baseline (Eq. 7, Ethayarajh et al. 2024).
    """
    config = dict(locals())
    data_options, frozen, model_options, training = take_options(
        options,
        DataOptions(),
        ReferenceOptions(),
        ModelOptions(),
        TrainingOptions(lr=1e-6, warmup_steps=0.1),
    )
    settings = KTOSettings(beta, loss, desirable_weight, undesirable_weight)
    if loss == "kto" and training.batch_size < 2:
        raise UserError("batch_size: expected 2 or more, for the baseline of kto pairs prompts with others' responses")
    with Run(
        output, config, training, name="kto", model_options=model_options, other_options=(data_options, frozen)
    ) as run:
        if run.finished:
            return run.output
        ratings, order = read_training_data(run, data, Rating, training)
        heldout_ratings = read_heldout(run, heldout, Rating)
        policy, tokenizer = load_for_training(run, model, dropout=False)
        template = ChatTemplate.from_tokenizer(tokenizer, data_options.template_spec)
        limit = resolve_length_limit(policy, data_options)
        trees, ratings, order = rating_trees(run, ratings, order, template, limit)
        _require_both_labels(run, ratings)
        total = training.total_steps(order.epoch_size)
        drawn_rows = deepcopy(order).draw(total * training.batch_size) if loss == "kto" else []
        mismatched_pairs = mismatched_trees([trees[row] for row in drawn_rows], training.batch_size, limit.max_length)
        cache = Path(frozen.reference_cache or run.output / "reference")
        reference_sums = cached_reference_log_probs(
            run, frozen.reference or policy, tokenizer, [*trees, *mismatched_pairs], cache
        )
        reference_log_probs, mismatched_reference_log_probs = torch.cat(reference_sums).split(
            [len(trees), len(mismatched_pairs)]
        )
        learner = Learner(policy, training, total, dtype=run.dtype)
        run.track(learner=learner, order=order)
        for step in with_evaluations(run, policy, tokenizer, run.steps(total), data_options.template_spec):
            rows = order.draw(training.batch_size)
            step_slice = slice((step - 1) * len(rows), step * len(rows))
            baseline = _step_baseline(
                run, learner, policy, mismatched_pairs[step_slice], mismatched_reference_log_probs[step_slice]
            )
            batches = make_microbatches([trees[row] for row in rows], training.tokens_per_microbatch, run.device)
            desirable = torch.tensor([ratings[row].desirable for row in rows])
            step_ratings = StepRatings(desirable, reference_log_probs[rows], baseline)
            step_loss = partial(rating_loss, policy, step_ratings, settings)
            metrics = optimizer_step(run, learner, batches, step_loss, len(rows), rows)
            run.log(_add_margin(metrics) | {"kl": baseline})
            if run.should_sample():
                log_samples(run, policy, tokenizer, template, [one.prompt for one in ratings])
        results = {}
        if heldout_ratings:
            reference_name = frozen.reference or model
            results = rating_auc(
                (policy, tokenizer), heldout_ratings, reference=reference_name, chat_template=data_options.template_spec
            )
        return run.finish(*prepare_for_saving(policy, template), save_model, results)


@dataclass(frozen=True)
class StepRatings:
    """The ratings of one optimiser step: labels [R], the reference's log-probabilities [R], the step's baseline."""

    desirable: torch.Tensor
    reference_log_probs: torch.Tensor
    baseline: float


def rating_loss(policy: PreTrainedModel, step: StepRatings, settings: KTOSettings, batch: Microbatch) -> StepLoss:
    """The loss summed over the micro-batch's ratings."""
    forest = batch.forest
    sums = sum_per_response(
        log_probs(policy, forward(policy, forest), forest), forest.response_index, forest.num_responses
    )  # [R]
    is_desirable, reference_sums = (
        values[batch.tree_indices].to(sums.device) for values in (step.desirable, step.reference_log_probs)
    )
    result = kto_loss(sums, reference_sums, is_desirable, settings, step.baseline)
    metrics: dict[str, Any] = {}
    for name, side in (("desirable", is_desirable), ("undesirable", ~is_desirable)):
        count = side.sum()
        metrics[f"{name}_reward"] = (result.rewards[side].sum(), count)
        metrics[f"{name}_log_prob"] = (sums.detach()[side].sum(), count)
    return StepLoss(result.losses.sum(), metrics)


def mismatched_trees(trees: Sequence[TreeNode], batch_size: int, context: int) -> list[TreeNode]:
    """For each draw its prompt with the response of the draw before it in the same step, cut to the context."""
    pairs = []
    for first in range(0, len(trees), batch_size):
        step = trees[first : first + batch_size]
        for own, response in zip(step, mismatched([node.children[0].tokens for node in step]), strict=True):
            pairs.append(make_tree(own.tokens, [response[: context - len(own.tokens)]]))
    return pairs


def _step_baseline(
    run: Run,
    learner: Learner,
    policy: PreTrainedModel,
    trees: Sequence[TreeNode],
    reference_log_probs: torch.Tensor,
) -> float:
    """The step's baseline in nats; 0 where the loss has none."""
    if not trees:
        return 0.0
    with learner.autocast():
        sums = log_prob_sums(policy, trees, run.options.tokens_per_microbatch)
    run.ledger.count(flops=sum(learner.flops.forward(node.num_tokens, node.num_scored) for node in trees))
    return float(kl_baseline(torch.tensor([float(one[0]) for one in sums]), reference_log_probs))


def _add_margin(metrics: dict[str, float]) -> dict[str, float]:
    """With the mean reward of the step's desirable responses above that of its undesirable ones, where it has both."""
    both = "desirable_reward" in metrics and "undesirable_reward" in metrics
    return metrics | ({"margin": metrics["desirable_reward"] - metrics["undesirable_reward"]} if both else {})


def _require_both_labels(run: Run, ratings: Sequence[Rating]) -> None:
    """Note how many there are of each kind; raise `UserError` where there is only one kind."""
    num_desirable = sum(one.desirable for one in ratings)
    num_undesirable = len(ratings) - num_desirable
    if not num_desirable or not num_undesirable:
        only, other = ("desirable", "undesirable") if num_desirable else ("undesirable", "desirable")
        raise UserError(
            f"{run.config['data']}: all {len(ratings)} ratings are {only}; kto learns from the difference: add "
            f"{other} responses" + (", or imitate these with zhenlong sft" if num_desirable else "")
        )
    run.write_note("ratings.json", {"desirable": num_desirable, "undesirable": num_undesirable})
