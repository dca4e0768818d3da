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

from zhenlong.data import Mixture, Overlong, Template
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics import interval
from zhenlong.forest import Batch, Forest, Node, forward, log_probs, plant_batches
from zhenlong.loop import Cost, Learner, Options, Run, StepLoss
from zhenlong.loop.randomness import evaluating
from zhenlong.models import save_model
from zhenlong.objectives.likelihood import negative_log_likelihood
from zhenlong.objectives.reduce import mean_per_response
from zhenlong.records import Demonstration, Ranking
from zhenlong.stages.evaluations import evaluated
from zhenlong.stages.safety_pairs import Pair, held_pairs, pair_trees
from zhenlong.stages.samples import say
from zhenlong.stages.setup import context_of, load, ready, update
from zhenlong.stages.trees import conversation_trees, read_all, read_heldout
from zhenlong.verify.refusal import refuses


def derta(
    *,
    model: str,
    data: str,
    output: str,
    general: str = "",
    general_share: float | None = None,
    heldout: str = "",
    refusal: str = "Sorry",
    rto_weight: float = 1.0,
    rto_share: float = 1.0,
    prefix: bool = True,
    chat_template: str = "auto",
    max_length: int = 0,
    too_long: Overlong = "error",
    skip_bad_rows: bool = False,
    lr: float = 2e-5,
    warmup_steps: float = 0.03,
    **training: Any,
) -> Path:
    """Teach a model to refuse at any place of a response.

    Args:
        model: Model to start from: pocket, a model or run folder, or a hub id.
        data: Rankings of harmful questions, the safe response above the harmful one: files, hf:owner/name or
            world:safety; several with weights as `a.jsonl*0.7,b*0.3`.
        output: Run folder to make.
        general: Demonstrations of ordinary answers to train on beside them; the paper has ten for each pair.
        general_share: Share of the records drawn that are general; none takes what their numbers give.
        heldout: Rankings on which to measure, before and after, how probable the refusal is within the harmful
            response.
        refusal: Word whose first token RTO teaches; empty takes the first token of each pair's own safe response.
        rto_weight: Weight of RTO's tokens beside the others; 0 leaves RTO out.
        rto_share: Share of a harmful response's positions that RTO scores, drawn anew at each step.
        prefix: Put the safe response behind a part of the harmful one; false trains on the safe response alone.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        max_length: Tokens of the longest prompt with response; 0 takes the model's context.
        too_long: What to do with a longer one: stop with an error, truncate the responses, or drop it.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up; below 1 a fraction of all steps.

    Returns the run folder. Equation: L = -1/T [Σ log π(safe_t | x, harmful_<=k, safe_<t) + w Σ log π(refusal | x,
    harmful_<t) + Σ log π(y_t | x, y_<t)], T the scored tokens of the step (Eqs. 2 and 3, Yuan et al. 2024).
    """
    config = dict(locals())
    options = Options(lr=lr, warmup_steps=warmup_steps, **training)
    _check(general, general_share, rto_weight, rto_share)
    with Run(output, config, options, "derta") as run:
        if run.finished:
            return run.output
        rankings, order = read_all(run, data, Ranking, options)
        _check_direction(run, rankings)
        shown, general_order = read_all(run, general, Demonstration, options, "general") if general else ([], None)
        held = read_heldout(run, heldout, Ranking)
        policy, tokenizer = load(model, options)
        template, context = Template.of(tokenizer, chat_template), context_of(policy, max_length)
        pairs, order = pair_trees(run, rankings, order, template, refusal, prefix, context, too_long)
        trees: list[Node] = []
        if general_order:
            trees, general_order = conversation_trees(run, shown, general_order, template, context, too_long)
            order = joined(order, general_order, general_share, options.seed)
        measured = held_pairs(held, template, refusal, context)
        records: list[Pair | Node] = [*pairs, *trees]
        total = options.total_steps(len(records))
        learner, cost = Learner(policy, options, total), Cost.of(policy)
        run.track(learner=learner, order=order)
        budget = options.tokens_per_microbatch
        results = {"before": refusal_probability(policy, measured, budget)} if measured else {}
        for _ in evaluated(run, policy, tokenizer, run.steps(total), chat_template):
            rows = order.draw(options.batch_size)
            step = [records[row] for row in rows]
            batches = plant_batches(step_trees(step, rto_weight, rto_share, run.seed("rto")), budget, run.device)
            scored = sum(len(batch.forest.target) for batch in batches)
            part = partial(derta_loss, policy, step, rto_weight)
            run.log(update(run, learner, cost, batches, part, scored, rows))
            if run.sampling_now():
                say(run, policy, tokenizer, template, [one.prompt for one in rankings])
        if measured:
            results["after"] = refusal_probability(policy, measured, budget)
        return run.finish(*ready(policy, template), save_model, results)


def derta_loss(policy: PreTrainedModel, step: Sequence[Pair | Node], rto_weight: float, batch: Batch) -> StepLoss:
    """The weighted negative log-likelihood of a micro-batch's scored tokens, those of RTO and the others."""
    forest, rto = retargeted(batch.forest, [step[row] for row in batch.rows], rto_weight > 0)
    scores = log_probs(policy, forward(policy, forest), forest)  # [M]
    weights = torch.where(rto, rto_weight, 1.0)
    metrics: dict[str, Any] = {}
    for name, side in (("rto_log_prob", rto), ("answer_log_prob", ~rto)):
        metrics[name] = (scores.detach()[side].sum(), side.sum())
    metrics["refusal_probability"] = (scores.detach()[rto].exp().sum(), rto.sum())
    return StepLoss(negative_log_likelihood(scores, weights), metrics)


def retargeted(forest: Forest, records: Sequence[Pair | Node], with_rto: bool = True) -> tuple[Forest, torch.Tensor]:
    """The forest whose harmful responses have the refusal as their every target, and which tokens these are, [M].

    `records` are those of the forest's trees. The harmful response is the first response of a pair's tree.
    """
    first = torch.ones_like(forest.leaf_tree, dtype=torch.bool)
    first[1:] = forest.leaf_tree[1:] != forest.leaf_tree[:-1]
    refusals = [one.refusal if isinstance(one, Pair) and with_rto else -1 for one in records]
    of_tree = torch.tensor(refusals, device=forest.target.device)
    wanted = torch.where(first, of_tree[forest.leaf_tree], -1)[forest.leaf]  # [M]
    rto = wanted >= 0
    return replace(forest, target=torch.where(rto, wanted, forest.target)), rto


def step_trees(step: Sequence[Pair | Node], rto_weight: float, rto_share: float, seed: int) -> list[Node]:
    """The trees of one step: of each harmful response a random share of positions is scored, at least one.

    Without RTO the harmful response is not there at all. The draws are those of `seed`, record by record.
    """
    rng, trees = np.random.default_rng(seed), []
    for one in step:
        if isinstance(one, Node):
            trees.append(one)
            continue
        harmful, safe = one.node.children
        if rto_weight == 0:
            trees.append(replace(one.node, children=(safe,)))
        elif rto_share < 1:
            length = len(harmful.tokens)
            kept = rng.permutation(length) < max(1, round(rto_share * length))
            trees.append(replace(one.node, children=(replace(harmful, scored=kept.tolist()), safe)))
        else:
            trees.append(one.node)
    return trees


def refusal_probability(policy: PreTrainedModel, pairs: Sequence[Pair], budget: int) -> dict[str, Any]:
    """How probable the refusal is as the next token within harmful responses: `anywhere`, and at the `start`.

    Means over pairs with 95 % intervals; `anywhere` is each pair's mean over the positions of its harmful response.
    """
    anywhere, start = np.zeros(len(pairs)), np.zeros(len(pairs))
    trees = [replace(one.node, children=one.node.children[:1]) for one in pairs]
    device = next(policy.parameters()).device
    with evaluating(policy):
        for batch in plant_batches(trees, budget, device):
            forest, _ = retargeted(batch.forest, [pairs[row] for row in batch.rows])
            found = log_probs(policy, forward(policy, forest), forest).float().exp()  # [M]
            anywhere[batch.rows] = mean_per_response(found, forest.leaf, forest.leaves).cpu().numpy()
            begins = torch.cat([forest.leaf.new_ones(1), forest.leaf.diff()]) > 0
            start[batch.rows] = found[begins].cpu().numpy()
    return {"anywhere": interval(anywhere).as_json(), "start": interval(start).as_json()}


def joined(pairs: Mixture, general: Mixture, share: float | None, seed: int) -> Mixture:
    """One order over the sources of both; `share` of the draws are general, by default as many as there are."""
    sizes = (*pairs.sizes, *general.sizes)
    part = sum(general.sizes) / sum(sizes) if share is None else share
    weights = [(1 - part) * weight for weight in pairs.weights] + [part * weight for weight in general.weights]
    return Mixture(sizes, weights, seed)


def _check(general: str, general_share: float | None, rto_weight: float, rto_share: float) -> None:
    if general_share is not None and not (general and 0 < general_share < 1):
        raise UserError(f"general_share: expected a number between 0 and 1, with general given, got {general_share}")
    if not 0 <= rto_weight < float("inf"):
        raise UserError(f"rto_weight: expected a finite number of 0 or more, got {rto_weight}")
    if not 0 < rto_share <= 1:
        raise UserError(f"rto_share: expected a number above 0 and at most 1, got {rto_share}")


def _check_direction(run: Run, rankings: Sequence[Ranking]) -> None:
    """Note how many responses refuse; raise `UserError` for data that is the wrong way round."""
    ends = [(one.responses[better], one.responses[worse]) for one in rankings for better, worse in one.pairs()]
    safe, harmful = (sum(refuses(pair[side]) for pair in ends) for side in (0, 1))
    if harmful > safe:
        raise UserError(
            f"{run.config['data']}: {harmful} of {len(ends)} rejected responses refuse, {safe} of the preferred; "
            "expected the safe response to be preferred to the harmful one"
        )
    run.note("refusals.json", {"pairs": len(ends), "preferred_refuse": safe, "rejected_refuse": harmful})
