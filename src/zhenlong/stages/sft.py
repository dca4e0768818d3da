"""Supervised fine-tuning: imitate the assistant's turns of demonstrations.

The loss is on the assistant's tokens alone, the end of each turn included; what the user, the system and tools said is
read and not imitated. Conversations may have many turns, and several sources mix by weight.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from typing_extensions import Unpack

from zhenlong.data import ChatTemplate
from zhenlong.data.options import DataOptions
from zhenlong.evaluate.heldout.text_metrics import perplexity
from zhenlong.forest import make_microbatches
from zhenlong.loop import Learner, Run, TrainingOptions
from zhenlong.models import save_model
from zhenlong.models.options import ModelOptions
from zhenlong.options import take_options
from zhenlong.options.keywords import SftKwargs
from zhenlong.records import Demonstration
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.heldout_curve import HELDOUT_LOSS, HeldoutCurve
from zhenlong.stages.options import HeldoutOptions
from zhenlong.stages.prepare_data import conversation_trees, read_heldout, read_training_data
from zhenlong.stages.sample_logging import log_samples
from zhenlong.stages.stage_steps import (
    load_for_training,
    optimizer_step,
    prepare_for_saving,
    resolve_length_limit,
    token_loss,
)


def sft(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    **options: Unpack[SftKwargs],
) -> Path:
    """Fine-tune a model on demonstrations.

    Args:
        model: Base model: pocket, a model or run folder, or a hub id.
        data: Demonstrations: files, hf:owner/name or world:demonstrations; several with weights as `a.jsonl*0.7,b*0.3`.
        heldout: Demonstrations to measure perplexity on before and after.

    Returns the run folder. Equation: L = -1/T Σ log π(y_t | x, y_<t), T the assistant tokens of the step (Ouyang et al.
    2022, §3.5).
    """
    config = dict(locals())
    data_options, heldout_options, model_options, training = take_options(
        options,
        DataOptions(),
        HeldoutOptions(),
        ModelOptions(),
        TrainingOptions(lr=2e-5, warmup_steps=0.03),
    )
    with Run(
        output, config, training, name="sft", model_options=model_options, other_options=(data_options, heldout_options)
    ) as run:
        if run.finished:
            return run.output
        demonstrations, order = read_training_data(run, data, Demonstration, training, allow_decay_weights=True)
        heldout_demonstrations = read_heldout(run, heldout, Demonstration)
        policy, tokenizer = load_for_training(run, model)
        template = ChatTemplate.from_tokenizer(tokenizer, data_options.template_spec)
        trees, order = conversation_trees(
            run,
            demonstrations,
            order,
            template,
            resolve_length_limit(policy, data_options),
        )
        total = training.total_steps(order.epoch_size)
        learner = Learner(policy, training, total, dtype=run.dtype)
        run.track(learner=learner, order=order)
        results = (
            {
                "before": perplexity(
                    (policy, tokenizer), heldout_demonstrations, chat_template=data_options.template_spec
                )
            }
            if heldout_demonstrations
            else {}
        )

        def measure_heldout() -> dict[str, float]:
            found = perplexity((policy, tokenizer), heldout_demonstrations, chat_template=data_options.template_spec)
            return {HELDOUT_LOSS: math.log(found["perplexity"]["mean"])}

        curve = HeldoutCurve(run, heldout_options, heldout_demonstrations, policy, measure_heldout)
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), data_options.template_spec, curve):
            rows = order.draw(training.batch_size, decay=learner.schedule_phase == "decay")
            batches = make_microbatches([trees[row] for row in rows], training.tokens_per_microbatch, run.device)
            scored = sum(len(batch.forest.target) for batch in batches)
            run.log(optimizer_step(run, learner, batches, partial(token_loss, policy), scored, rows))
            if run.should_sample():
                log_samples(run, policy, tokenizer, template, [one.messages for one in demonstrations])
        curve.restore_best()
        if heldout_demonstrations:
            results["after"] = perplexity(
                (policy, tokenizer), heldout_demonstrations, chat_template=data_options.template_spec
            )
        run.finish(*prepare_for_saving(policy, template), save_model, results)
        curve.remove_best()
        return run.output
