"""DeRTa: learn to refuse at any place of a response, not only at its beginning (Yuan et al. 2024).

From a harmful question with a safe and a harmful response come two texts that share the prompt. One is the safe
response after the first words of the harmful one: these are read and not imitated (MLE with harmful response prefix).
The other is the harmful response itself, at every position of which the refusal's first token is what should come next
(reinforced transition optimisation, RTO). General demonstrations beside them keep the model from refusing everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate, LengthLimit, Mixture
from zhenlong.data.options import DataOptions
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.forest import Forest, Microbatch, TreeNode, forward, log_probs, make_microbatches
from zhenlong.loop import Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import save_model
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.likelihood import negative_log_likelihood
from zhenlong.objectives.reduce import mean_per_response
from zhenlong.options import take_options
from zhenlong.options.keywords import LikelihoodKwargs
from zhenlong.randomness import eval_mode
from zhenlong.records import Demonstration, Ranking
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.prepare_data import conversation_trees, read_heldout, read_training_data
from zhenlong.stages.safety_pairs import SafetyPair, SafetyPairSettings, build_heldout_pairs, pair_trees
from zhenlong.stages.sample_logging import log_samples
from zhenlong.stages.stage_steps import load_for_training, optimizer_step, prepare_for_saving, resolve_max_length
from zhenlong.verify.refusal import is_refusal


def derta(
    *,
    model: str,
    data: str,
    output: str,
    general_data: str = "",
    general_fraction: float | None = None,
    heldout: str = "",
    refusal: str = "Sorry",
    rto_weight: float = 1.0,
    rto_fraction: float = 1.0,
    harmful_prefix: bool = True,
    **options: Unpack[LikelihoodKwargs],
) -> Path:
    """Teach a model to refuse at any place of a response.

    Args:
        model: Model to start from: pocket, a model or run folder, or a hub id.
        data: Rankings of harmful questions, the safe response above the harmful one: files, hf:owner/name or
            world:safety; several with weights as `a.jsonl*0.7,b*0.3`.
        general_data: Demonstrations of ordinary answers to train on beside them; the paper has ten for each pair.
        general_fraction: Fraction of the records drawn that are general; none takes what their numbers give.
        heldout: Rankings on which to measure, before and after, how probable the refusal is within the harmful
            response.
        refusal: Word whose first token RTO teaches; empty takes the first token of each pair's own safe response.
        rto_weight: Weight of RTO's tokens beside the others; 0 leaves RTO out.
        rto_fraction: Fraction of a harmful response's positions that RTO scores, drawn anew at each step.
        harmful_prefix: Put the safe response behind a part of the harmful one; false trains on the safe response alone.

    Returns the run folder. Equation: L = -1/T [Σ log π(safe_t | x, harmful_<=k, safe_<t) + w Σ log π(refusal | x,
    harmful_<t) + Σ log π(y_t | x, y_<t)], T the scored tokens of the step (Eqs. 2 and 3, Yuan et al. 2024).
    """
    config = dict(locals())
    data_options, model_options, training = take_options(
        options,
        DataOptions(),
        ModelOptions(),
        TrainingOptions(lr=2e-5, warmup_steps=0.03),
    )
    _check_options(general_data, general_fraction, rto_weight, rto_fraction)
    with Run(output, config, training, name="derta", model_options=model_options, other_options=(data_options,)) as run:
        if run.finished:
            return run.output
        rankings, order = read_training_data(run, data, Ranking, training)
        _require_chosen_refuse(run, rankings)
        general_demonstrations, general_order = (
            read_training_data(run, general_data, Demonstration, training, "general_data")
            if general_data
            else ([], None)
        )
        heldout_rankings = read_heldout(run, heldout, Ranking)
        policy, tokenizer = load_for_training(run, model)
        template, context = (
            ChatTemplate.from_tokenizer(tokenizer, data_options.template_spec),
            resolve_max_length(policy, data_options.max_length),
        )
        limit = LengthLimit(context, data_options.overlong)
        pairs, order = pair_trees(run, rankings, order, template, SafetyPairSettings(refusal, harmful_prefix), limit)
        trees: list[TreeNode] = []
        if general_order:
            trees, general_order = conversation_trees(run, general_demonstrations, general_order, template, limit)
            order = join_orders(order, general_order, general_fraction, training.seed)
        heldout_pairs = build_heldout_pairs(heldout_rankings, template, refusal, context)
        records: list[SafetyPair | TreeNode] = [*pairs, *trees]
        total = training.total_steps(len(records))
        learner = Learner(policy, training, total, dtype=run.dtype)
        run.track(learner=learner, order=order)
        budget = training.tokens_per_microbatch
        results = {"before": refusal_probability(policy, heldout_pairs, budget)} if heldout_pairs else {}
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), data_options.template_spec):
            rows = order.draw(training.batch_size)
            step = [records[row] for row in rows]
            batches = make_microbatches(
                step_trees(step, rto_weight, rto_fraction, run.step_seed("rto")), budget, run.device
            )
            scored = sum(len(batch.forest.target) for batch in batches)
            step_loss = partial(derta_loss, policy, step, rto_weight)
            run.log(optimizer_step(run, learner, batches, step_loss, scored, rows))
            if run.should_sample():
                log_samples(run, policy, tokenizer, template, [one.prompt for one in rankings])
        if heldout_pairs:
            results["after"] = refusal_probability(policy, heldout_pairs, budget)
        return run.finish(*prepare_for_saving(policy, template), save_model, results)


def derta_loss(
    policy: PreTrainedModel, step: Sequence[SafetyPair | TreeNode], rto_weight: float, batch: Microbatch
) -> StepLoss:
    """The weighted negative log-likelihood of a micro-batch's scored tokens, those of RTO and the others."""
    forest, rto = set_refusal_targets(batch.forest, [step[row] for row in batch.tree_indices], rto_weight > 0)
    token_log_probs = log_probs(policy, forward(policy, forest), forest)  # [M]
    weights = torch.where(rto, rto_weight, 1.0)
    metrics: dict[str, Any] = {}
    for name, side in (("rto_log_prob", rto), ("answer_log_prob", ~rto)):
        metrics[name] = (token_log_probs.detach()[side].sum(), side.sum())
    metrics["refusal_probability"] = (token_log_probs.detach()[rto].exp().sum(), rto.sum())
    return StepLoss(negative_log_likelihood(token_log_probs, weights), metrics)


def set_refusal_targets(
    forest: Forest, records: Sequence[SafetyPair | TreeNode], with_rto: bool = True
) -> tuple[Forest, torch.Tensor]:
    """The forest whose harmful responses have the refusal as their every target, and which tokens these are, [M].

    `records` are those of the forest's trees. The harmful response is the first response of a pair's tree.
    """
    is_first_response = torch.ones_like(forest.response_tree, dtype=torch.bool)
    is_first_response[1:] = forest.response_tree[1:] != forest.response_tree[:-1]
    refusals = [one.refusal if isinstance(one, SafetyPair) and with_rto else -1 for one in records]
    refusal_of_tree = torch.tensor(refusals, device=forest.target.device)
    refusal_target = torch.where(is_first_response, refusal_of_tree[forest.response_tree], -1)[
        forest.response_index
    ]  # [M]
    rto = refusal_target >= 0
    return replace(forest, target=torch.where(rto, refusal_target, forest.target)), rto


def step_trees(
    step: Sequence[SafetyPair | TreeNode], rto_weight: float, rto_fraction: float, seed: int
) -> list[TreeNode]:
    """The trees of one step: of each harmful response a random share of positions is scored, at least one.

    Without RTO the harmful response is not there at all. The draws are those of `seed`, record by record.
    """
    rng, trees = np.random.default_rng(seed), []
    for one in step:
        if isinstance(one, TreeNode):
            trees.append(one)
            continue
        harmful, safe = one.tree.children
        if rto_weight == 0:
            trees.append(replace(one.tree, children=(safe,)))
        elif rto_fraction < 1:
            length = len(harmful.tokens)
            scored_mask = rng.permutation(length) < max(1, round(rto_fraction * length))
            trees.append(replace(one.tree, children=(replace(harmful, scored=scored_mask.tolist()), safe)))
        else:
            trees.append(one.tree)
    return trees


def refusal_probability(
    policy: PreTrainedModel, pairs: Sequence[SafetyPair], tokens_per_microbatch: int
) -> dict[str, Any]:
    """How probable the refusal is as the next token within harmful responses: `anywhere`, and at the `start`.

    Means over pairs with 95 % intervals; `anywhere` is each pair's mean over the positions of its harmful response.
    """
    anywhere, start = np.zeros(len(pairs)), np.zeros(len(pairs))
    trees = [replace(one.tree, children=one.tree.children[:1]) for one in pairs]
    device = next(policy.parameters()).device
    with eval_mode(policy):
        for batch in make_microbatches(trees, tokens_per_microbatch, device):
            forest, _ = set_refusal_targets(batch.forest, [pairs[row] for row in batch.tree_indices])
            probabilities = log_probs(policy, forward(policy, forest), forest).float().exp()  # [M]
            anywhere[batch.tree_indices] = (
                mean_per_response(probabilities, forest.response_index, forest.num_responses).cpu().numpy()
            )
            is_first_token = torch.cat([forest.response_index.new_ones(1), forest.response_index.diff()]) > 0
            start[batch.tree_indices] = probabilities[is_first_token].cpu().numpy()
    return {"anywhere": mean_interval(anywhere).as_json(), "start": mean_interval(start).as_json()}


def join_orders(pairs: Mixture, general: Mixture, general_fraction: float | None, seed: int) -> Mixture:
    """One order over the sources of both; `general_fraction` of the draws are general, by default their share."""
    sizes = (*pairs.sizes, *general.sizes)
    fraction = sum(general.sizes) / sum(sizes) if general_fraction is None else general_fraction
    weights = [(1 - fraction) * weight for weight in pairs.weights] + [fraction * weight for weight in general.weights]
    return Mixture(sizes, weights, seed)


def _check_options(general_data: str, general_fraction: float | None, rto_weight: float, rto_fraction: float) -> None:
    if general_fraction is not None and not (general_data and 0 < general_fraction < 1):
        raise UserError(f"general_fraction: expected a number between 0 and 1 and general_data, got {general_fraction}")
    if not 0 <= rto_weight < float("inf"):
        raise UserError(f"rto_weight: expected a finite number of 0 or more, got {rto_weight}")
    if not 0 < rto_fraction <= 1:
        raise UserError(f"rto_fraction: expected a number above 0 and at most 1, got {rto_fraction}")


def _require_chosen_refuse(run: Run, rankings: Sequence[Ranking]) -> None:
    """Note how many responses refuse; raise `UserError` for data that is the wrong way round."""
    response_pairs = [
        (one.responses[chosen], one.responses[rejected]) for one in rankings for chosen, rejected in one.pairs()
    ]
    safe, harmful = (sum(is_refusal(pair[side]) for pair in response_pairs) for side in (0, 1))
    if harmful > safe:
        raise UserError(
            f"{run.config['data']}: {harmful} of {len(response_pairs)} rejected responses refuse, {safe} of the "
            "chosen; expected the safe response to be preferred to the harmful one"
        )
    run.write_note(
        "refusals.json", {"pairs": len(response_pairs), "chosen_refusals": safe, "rejected_refusals": harmful}
    )
