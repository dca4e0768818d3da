"""What every stage begins with and repeats: its model, its context, one counted optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import ChatTemplate, LengthLimit
from zhenlong.data.options import DataOptions
from zhenlong.errors import UserError
from zhenlong.forest import Forest, Microbatch, forward, log_probs
from zhenlong.loop import FlopEstimator, Learner, Run, StepLoss
from zhenlong.models import ForwardSettings, Lora, compile_layers, load_model
from zhenlong.models.encoders import context_length
from zhenlong.models.load import ModelKind
from zhenlong.models.options import ModelOptions
from zhenlong.objectives import negative_log_likelihood


def load_for_training(
    run: Run, model: str, kind: ModelKind = "causal", dropout: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model to train, with the adapter, device and memory settings that the run's options ask for.

    Stages that compare the policy with itself, as it was or as the sampler saw it, train without the model's dropout.
    """
    options = run.model_options
    loaded, tokenizer = load_model(
        model,
        kind=kind,
        lora=lora_of(options),
        device=options.device,
        seed=run.options.seed,
        forward=ForwardSettings(options.gradient_checkpointing, dropout),
    )
    if options.compile:
        compile_layers(loaded)
    return loaded, tokenizer


def lora_of(options: ModelOptions) -> Lora | None:
    """The adapters that the options ask for, none with rank 0."""
    if not options.lora_rank:
        return None
    return Lora(options.lora_rank, alpha=options.lora_alpha, dropout=options.lora_dropout, targets=options.lora_targets)


def resolve_max_length(model: PreTrainedModel, max_length: int = 0) -> int:
    """The most tokens of one sequence: `max_length`, or all that the model's positions allow when it is 0."""
    limit = context_length(model.config) or max_length or 1 << 20
    if not 0 <= max_length <= limit:
        raise UserError(
            f"max_length: expected 0 or more, and at most the model's context of {limit} tokens, got {max_length}"
        )
    return max_length or limit


def resolve_length_limit(model: PreTrainedModel, options: DataOptions) -> LengthLimit:
    """The longest example that the model and the options allow, and what is done with longer ones."""
    return LengthLimit(resolve_max_length(model, options.max_length), options.overlong)


def optimizer_step(
    run: Run,
    learner: Learner,
    batches: Sequence[Microbatch],
    loss: Callable[[Microbatch], StepLoss],
    count: float,
    record_ids: Sequence[Any] | None = None,
) -> dict[str, float]:
    """One optimiser step over planted micro-batches, with its tokens and arithmetic entered in the ledger.

    `record_ids` names the step's records, so that a loss that is not finite can be traced to them.
    """
    microbatch_record_ids = [
        [record_ids[row] if record_ids is not None else row for row in batch.tree_indices] for batch in batches
    ]
    metrics = learner.step(batches, loss, count, microbatch_record_ids)
    for batch in batches:
        count_training_cost(run, learner.flops, batch.forest)
    return metrics


def token_loss(network: PreTrainedModel, batch: Microbatch) -> StepLoss:
    """The summed negative log-likelihood of a micro-batch's scored tokens."""
    states = forward(network, batch.forest)
    return StepLoss(negative_log_likelihood(log_probs(network, states, batch.forest)))


def count_training_cost(run: Run, cost: FlopEstimator, forest: Forest) -> None:
    """Enter a forward and backward pass that was made in the ledger."""
    tokens, scored = len(forest.tokens), len(forest.target)
    run.ledger.count(tokens=tokens, flops=cost.train(tokens, scored, forest.attention_pairs, forest.last_layer_tokens))


def count_forward_cost(run: Run, cost: FlopEstimator, forest: Forest) -> None:
    """Enter the arithmetic of a pass without gradients; its tokens are not trained on and do not count as such."""
    run.ledger.count(
        flops=cost.forward(len(forest.tokens), len(forest.target), forest.attention_pairs, forest.last_layer_tokens)
    )


def prepare_for_saving(
    model: PreTrainedModel, template: ChatTemplate
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer as they are saved: other programs then talk to the model as it was trained."""
    template.tokenizer.chat_template = template.saved_source
    if getattr(model, "generation_config", None) is not None:  # a reward model has none
        model.generation_config.eos_token_id = list(template.stop_ids)
    return model, template.tokenizer
