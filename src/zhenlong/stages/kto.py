"""KTO: learn from single responses with a thumb up or down, where nobody compared two answers.

Each response is held against a baseline: how much more probable the policy has made responses in general. That is
estimated on mismatched pairs, each prompt of a step with the response of the one before it, without gradient and over
the whole step. The order of the data is known from the seed, so the reference's side of these pairs is computed before
training, beside that of the data, and the reference is never in memory with the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from zhenlong.data import Overlong, Template
from zhenlong.errors import UserError
from zhenlong.evaluate.ratings import rating_separation
from zhenlong.evaluate.scoring import log_prob_sums
from zhenlong.forest import Batch, Node, forward, log_probs, plant_batches, tree
from zhenlong.loop import Cost, Learner, Options, Run, StepLoss
from zhenlong.models import save_model
from zhenlong.objectives.kto import check_kto, kl_baseline, kto_loss, mismatched
from zhenlong.objectives.reduce import per_response
from zhenlong.records import Rating
from zhenlong.stages.evaluations import evaluated
from zhenlong.stages.reference import cached_log_probs
from zhenlong.stages.samples import say
from zhenlong.stages.setup import context_of, load, ready, update
from zhenlong.stages.trees import rating_trees, read_all, read_heldout


def kto(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    reference: str = "",
    reference_cache: str = "",
    beta: float = 0.1,
    loss: Literal["kto", "apo_zero"] = "kto",
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    chat_template: str = "auto",
    max_length: int = 0,
    too_long: Overlong = "error",
    skip_bad_rows: bool = False,
    lr: float = 1e-6,
    warmup_steps: float = 0.1,
    **training: Any,
) -> Path:
    """Optimise a policy on single responses with a thumb up or down.

    Args:
        model: Policy to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.
        data: Ratings: files, hf:owner/name or world:ratings; several with weights as `a.jsonl*0.7,b*0.3`. Rankings are
            read as ratings too, the best responses up and the worst down.
        output: Run folder to make.
        heldout: Ratings to measure on how far the implicit reward tells them apart.
        reference: Reference model; empty takes the policy as it began.
        reference_cache: Folder to share reference log-probabilities between runs; empty keeps them in the run's.
        beta: Strength of the pull to the reference; lower lets the policy go further.
        loss: kto, or apo_zero, which has no baseline.
        desirable_weight: Weight of the responses with a thumb up.
        undesirable_weight: Weight of the responses with a thumb down.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        max_length: Tokens of the longest prompt with response; 0 takes the model's context.
        too_long: What to do with a longer one: stop with an error, truncate the response, or drop the rating.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up; below 1 a fraction of all steps.

    Returns the run folder. Equation: L = λ (1 - σ(±β [log π(y)/π_ref(y) - z])), + and λ_D for a thumb up, - and λ_U for
    one down, the mean over ratings; z the baseline (Eq. 7, Ethayarajh et al. 2024).
    """
    config = dict(locals())
    options = Options(lr=lr, warmup_steps=warmup_steps, **training)
    check_kto(beta, loss, desirable_weight, undesirable_weight)
    if loss == "kto" and options.batch_size < 2:
        raise UserError("batch_size: expected 2 or more, for the baseline of kto pairs prompts with others' responses")
    settings = {"beta": beta, "desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    with Run(output, config, options, "kto") as run:
        if run.finished:
            return run.output
        ratings, order = read_all(run, data, Rating, options)
        held = read_heldout(run, heldout, Rating)
        policy, tokenizer = load(model, options, dropout=False)
        template, context = Template.of(tokenizer, chat_template), context_of(policy, max_length)
        trees, ratings, order = rating_trees(run, ratings, order, template, context, too_long)
        _require_both(run, ratings)
        total, cost = options.total_steps(order.epoch), Cost.of(policy)
        drawn = deepcopy(order).draw(total * options.batch_size) if loss == "kto" else []
        strangers = mismatched_trees([trees[row] for row in drawn], options.batch_size, context)
        cache = Path(reference_cache or run.output / "reference")
        found = cached_log_probs(run, reference or policy, tokenizer, [*trees, *strangers], options, cache)
        anchors, stranger_anchors = torch.cat(found).split([len(trees), len(strangers)])
        learner = Learner(policy, options, total)
        run.track(learner=learner, order=order)
        for number in evaluated(run, policy, tokenizer, run.steps(total), chat_template):
            rows = order.draw(options.batch_size)
            now = slice((number - 1) * len(rows), number * len(rows))
            baseline = _baseline(run, learner, cost, policy, strangers[now], stranger_anchors[now])
            batches = plant_batches([trees[row] for row in rows], options.tokens_per_microbatch, run.device)
            thumbs = torch.tensor([ratings[row].desirable for row in rows])
            part = partial(rating_loss, policy, thumbs, anchors[rows], settings | {"baseline": baseline})
            metrics = update(run, learner, cost, batches, part, len(rows), rows)
            run.log(_with_margin(metrics) | {"kl": baseline})
            if run.sampling_now():
                say(run, policy, tokenizer, template, [one.prompt for one in ratings])
        results = {}
        if held:
            begun = reference or model
            results = rating_separation((policy, tokenizer), held, reference=begun, chat_template=chat_template)
        return run.finish(*ready(policy, template), save_model, results)


def rating_loss(
    policy: PreTrainedModel, thumbs: torch.Tensor, anchors: torch.Tensor, settings: dict[str, float], batch: Batch
) -> StepLoss:
    """The loss summed over the micro-batch's ratings; `thumbs` and `anchors` are those of the step, [R]."""
    forest = batch.forest
    sums = per_response(log_probs(policy, forward(policy, forest), forest), forest.leaf, forest.leaves)  # [R]
    desirable, anchor = (values[batch.rows].to(sums.device) for values in (thumbs, anchors))
    found = kto_loss(sums, anchor, desirable, **settings)
    metrics: dict[str, Any] = {}
    for name, side in (("desirable", desirable), ("undesirable", ~desirable)):
        count = side.sum()
        metrics[f"{name}_reward"] = (found.rewards[side].sum(), count)
        metrics[f"{name}_log_prob"] = (sums.detach()[side].sum(), count)
    return StepLoss(found.losses.sum(), metrics)


def mismatched_trees(drawn: Sequence[Node], batch_size: int, context: int) -> list[Node]:
    """For each draw its prompt with the response of the draw before it in the same step, cut to the context."""
    strangers = []
    for first in range(0, len(drawn), batch_size):
        step = drawn[first : first + batch_size]
        for own, response in zip(step, mismatched([node.children[0].tokens for node in step]), strict=True):
            strangers.append(tree(own.tokens, [response[: context - len(own.tokens)]]))
    return strangers


def _baseline(
    run: Run, learner: Learner, cost: Cost, policy: PreTrainedModel, trees: Sequence[Node], anchors: torch.Tensor
) -> float:
    """The step's baseline in nats; 0 where the loss has none."""
    if not trees:
        return 0.0
    with learner.autocast():
        sums = log_prob_sums(policy, trees, run.options.tokens_per_microbatch)
    run.ledger.count(flops=sum(cost.forward(node.size, node.scored_tokens) for node in trees))
    return float(kl_baseline(torch.tensor([float(one[0]) for one in sums]), anchors))


def _with_margin(metrics: dict[str, float]) -> dict[str, float]:
    """With the mean reward of the step's thumbs up above that of its thumbs down, where it has both."""
    both = "desirable_reward" in metrics and "undesirable_reward" in metrics
    return metrics | ({"margin": metrics["desirable_reward"] - metrics["undesirable_reward"]} if both else {})


def _require_both(run: Run, ratings: Sequence[Rating]) -> None:
    """Note how many there are of each kind; raise `UserError` where there is only one kind."""
    up = sum(one.desirable for one in ratings)
    down = len(ratings) - up
    if not up or not down:
        only, other = ("desirable", "undesirable") if up else ("undesirable", "desirable")
        raise UserError(
            f"{run.config['data']}: all {len(ratings)} ratings are {only}; kto learns from the difference: add "
            f"{other} responses" + (", or imitate these with zhenlong sft" if up else "")
        )
    run.note("ratings.json", {"desirable": up, "undesirable": down})
