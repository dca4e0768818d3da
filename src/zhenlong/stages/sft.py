"""Supervised fine-tuning: imitate the assistant's turns of demonstrations.

The loss is on the assistant's tokens alone, the end of each turn included; what the user, the system and tools said is
read and not imitated. Conversations may have many turns, and several sources mix by weight.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from zhenlong.data import ChatTemplate, Overlong
from zhenlong.evaluate.heldout.text_metrics import perplexity
from zhenlong.forest import make_microbatches
from zhenlong.loop import Learner, Run, TrainingOptions
from zhenlong.models import save_model
from zhenlong.records import Demonstration
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.prepare_data import conversation_trees, read_heldout, read_training_data
from zhenlong.stages.sample_logging import log_samples
from zhenlong.stages.stage_steps import (
    load_for_training,
    optimizer_step,
    prepare_for_saving,
    resolve_max_length,
    token_loss,
)


def sft(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    chat_template: str = "auto",
    max_length: int = 0,
    overlong: Overlong = "error",
    skip_bad_rows: bool = False,
    lr: float = 2e-5,
    warmup_steps: float = 0.03,
    **training: Any,
) -> Path:
    """Fine-tune a model on demonstrations.

    Args:
        model: Base model: pocket, a model or run folder, or a hub id.
        data: Demonstrations: files, hf:owner/name or world:demonstrations; several with weights as `a.jsonl*0.7,b*0.3`.
        output: Run folder to make.
        heldout: Demonstrations to measure perplexity on before and after.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        max_length: Tokens of the longest conversation; 0 takes the model's context.
        overlong: What to do with a longer one: stop with an error, truncate its end, or drop it; both are counted.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate; 1e-5 to 2e-5 for all weights of a large model, ten times that with LoRA or tiny models.
        warmup_steps: Steps of linear warm-up; below 1 a fraction of all steps.

    Returns the run folder. Equation: L = -1/T Σ log π(y_t | x, y_<t), T the assistant tokens of the step (Ouyang et al.
    2022, §3.5).
    """
    config = dict(locals())
    options = TrainingOptions(lr=lr, warmup_steps=warmup_steps, **training)
    with Run(output, config, options, "sft") as run:
        if run.finished:
            return run.output
        demonstrations, order = read_training_data(run, data, Demonstration, options, allow_decay_weights=True)
        heldout_demonstrations = read_heldout(run, heldout, Demonstration)
        policy, tokenizer = load_for_training(model, options)
        template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
        trees, order = conversation_trees(
            run, demonstrations, order, template, resolve_max_length(policy, max_length), overlong
        )
        total = options.total_steps(order.epoch_size)
        learner = Learner(policy, options, total)
        run.track(learner=learner, order=order)
        results = (
            {"before": perplexity((policy, tokenizer), heldout_demonstrations, chat_template=chat_template)}
            if heldout_demonstrations
            else {}
        )
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), chat_template):
            rows = order.draw(options.batch_size, decay=learner.schedule_phase == "decay")
            batches = make_microbatches([trees[row] for row in rows], options.tokens_per_microbatch, run.device)
            scored = sum(len(batch.forest.target) for batch in batches)
            run.log(optimizer_step(run, learner, batches, partial(token_loss, policy), scored, rows))
            if run.should_sample():
                log_samples(run, policy, tokenizer, template, [one.messages for one in demonstrations])
        if heldout_demonstrations:
            results["after"] = perplexity((policy, tokenizer), heldout_demonstrations, chat_template=chat_template)
        return run.finish(*prepare_for_saving(policy, template), save_model, results)
