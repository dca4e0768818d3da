"""Direct preference optimisation: learn from rankings without a reward model and without sampling.

The reference is the policy as it began (or another model); its log-probabilities never change, so they are computed
once and kept on disk under a hash of model and data. SimPO and ORPO have none. A prompt and its responses are one tree:
the prompt is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from zhenlong.data import Overlong, Template
from zhenlong.errors import UserError
from zhenlong.evaluate.text import preference_accuracy
from zhenlong.forest import Batch, forward, log_probs, plant_batches
from zhenlong.loop import Cost, Learner, Options, Run, StepLoss
from zhenlong.models import save_model
from zhenlong.objectives.preference import REFERENCE_FREE, check_preference, preference_loss
from zhenlong.objectives.reduce import counts, per_response
from zhenlong.records import Ranking
from zhenlong.stages.evaluations import evaluated
from zhenlong.stages.reference import cached_log_probs
from zhenlong.stages.reward_model import pairs_of
from zhenlong.stages.samples import say
from zhenlong.stages.setup import context_of, load, ready, update
from zhenlong.stages.trees import ranking_trees, read_all, read_heldout

Loss = Literal["sigmoid", "sigmoid_norm", "robust", "ipo", "hinge", "apo_zero", "apo_down", "simpo", "orpo"]


def dpo(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    reference: str = "",
    reference_cache: str = "",
    beta: float = 0.1,
    loss: Loss = "sigmoid",
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
    sft_weight: float | None = None,
    sft_average: Literal["response", "token"] = "response",
    chat_template: str = "auto",
    max_length: int = 0,
    too_long: Overlong = "error",
    skip_bad_rows: bool = False,
    lr: float = 1e-6,
    warmup_steps: float = 0.1,
    **training: Any,
) -> Path:
    """Optimise a policy on rankings directly.

    Args:
        model: Policy to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.
        data: Rankings: files, hf:owner/name or world:rankings; several with weights as `a.jsonl*0.7,b*0.3`.
        output: Run folder to make.
        heldout: Rankings to measure the accuracy of the implicit reward on.
        reference: Reference model; empty takes the policy as it began.
        reference_cache: Folder to share reference log-probabilities between runs; empty keeps them in the run's.
        beta: Strength of the pull to the reference; lower lets the policy go further. simpo and sigmoid_norm, which
            compare means over tokens, take 2 to 10; for orpo it is the weight of the odds ratio.
        loss: sigmoid (DPO; with label_smoothing cDPO), sigmoid_norm, robust, ipo, hinge, apo_zero, apo_down, or without
            a reference simpo or orpo.
        label_smoothing: Assumed probability that a preference is the wrong way round.
        gamma: Margin that simpo asks for, about beta / 2.
        sft_weight: Weight of the chosen response's mean negative log-probability beside the loss; none takes 1 for orpo
            and 0 for the others.
        sft_average: What that mean is over: each response by itself, or all chosen tokens of the step (token), where
            long responses count more, as in sft and in TRL's loss of that name.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        max_length: Tokens of the longest prompt with response; 0 takes the model's context.
        too_long: What to do with a longer one: stop with an error, truncate the responses, or drop the ranking.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up; below 1 a fraction of all steps.

    Returns the run folder. Equation: L = -log σ(β [log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l)]), the mean over pairs
    (Eq. 7, Rafailov et al. 2023); log-probabilities are summed over the response's tokens.
    """
    config = dict(locals())
    options = Options(lr=lr, warmup_steps=warmup_steps, **training)
    likelihood = (1.0 if loss == "orpo" else 0.0) if sft_weight is None else sft_weight
    check_preference(beta, loss, label_smoothing, gamma, likelihood)
    settings = {
        "beta": beta, "loss": loss, "label_smoothing": label_smoothing, "gamma": gamma, "sft_weight": likelihood
    }  # fmt: skip
    if sft_average not in ("response", "token"):
        raise UserError(f"sft_average: expected response or token, got {sft_average!r}")
    if loss in REFERENCE_FREE and (reference or reference_cache):
        raise UserError(f"reference, reference_cache: {loss} compares with no reference; leave them empty")
    with Run(output, config, options, "dpo") as run:
        if run.finished:
            return run.output
        rankings, order = read_all(run, data, Ranking, options)
        held = read_heldout(run, heldout, Ranking)
        policy, tokenizer = load(model, options, dropout=False)
        template = Template.of(tokenizer, chat_template)
        trees, rankings, order = ranking_trees(run, rankings, order, template, context_of(policy, max_length), too_long)
        cost = Cost.of(policy)
        anchors = [torch.zeros(len(one.responses)) for one in rankings]  # not read by losses without a reference
        if loss not in REFERENCE_FREE:
            cache = Path(reference_cache or run.output / "reference")
            anchors = cached_log_probs(run, reference or policy, tokenizer, trees, options, cache)
        total = options.total_steps(order.epoch)
        learner = Learner(policy, options, total)
        run.track(learner=learner, order=order)
        for _ in evaluated(run, policy, tokenizer, run.steps(total), chat_template):
            rows = order.draw(options.batch_size)
            step = [(rankings[row], anchors[row]) for row in rows]
            batches = plant_batches([trees[row] for row in rows], options.tokens_per_microbatch, run.device)
            pairs = sum(len(ranking.pairs()) for ranking, _ in step)
            if sft_average == "token":
                settings["sft_tokens"] = sum(map(partial(chosen_tokens, step), batches)) / pairs
            run.log(update(run, learner, cost, batches, partial(pair_loss, policy, step, settings), pairs, rows))
            if run.sampling_now():
                say(run, policy, tokenizer, template, [one.prompt for one in rankings])
        results = {}
        if held:
            begun = reference or model
            results = preference_accuracy((policy, tokenizer), held, reference=begun, chat_template=chat_template)
        return run.finish(*ready(policy, template), save_model, results)


def chosen_tokens(step: Sequence[tuple[Ranking, torch.Tensor]], batch: Batch) -> int:
    """The tokens of the preferred response of each pair, summed over the micro-batch's pairs."""
    better, _, _ = pairs_of([step[row][0] for row in batch.rows], batch.forest.leaf.device)
    return int(counts(batch.forest.leaf, batch.forest.leaves)[better].sum())


def pair_loss(
    policy: PreTrainedModel,
    step: Sequence[tuple[Ranking, torch.Tensor]],
    settings: dict[str, Any],
    batch: Batch,
) -> StepLoss:
    """The preference loss summed over all pairs of the micro-batch's rankings, with the implicit rewards as metrics."""
    forest = batch.forest
    sums = per_response(log_probs(policy, forward(policy, forest), forest), forest.leaf, forest.leaves)  # [R]
    anchor = torch.cat([step[row][1] for row in batch.rows]).to(sums.device)  # [R]
    tokens = counts(forest.leaf, forest.leaves)
    better, worse, _ = pairs_of([step[row][0] for row in batch.rows], sums.device)
    found = preference_loss(
        sums[better],
        sums[worse],
        anchor[better],
        anchor[worse],
        chosen_tokens=tokens[better],
        rejected_tokens=tokens[worse],
        **settings,
    )
    margin = found.chosen_rewards - found.rejected_rewards
    metrics = {
        "accuracy": (margin > 0).float().sum(),
        "margin": margin.sum(),
        "chosen_reward": found.chosen_rewards.sum(),
        "rejected_reward": found.rejected_rewards.sum(),
        "chosen_log_prob": sums[better].detach().sum(),
    }
    return StepLoss(found.losses.sum(), metrics)
