"""Pretraining: predict every token of every document, from random weights or from an existing model.

Documents are trees of one node in a flat batch: packed without padding, and none sees another. With the WSD schedule
the decay phase may draw from other data (MiniCPM, Hu et al. 2024, §4): late in training, at a falling learning rate,
a small amount of high-quality or instruction data counts for most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import Unpack

from zhenlong.data import Mixture, parse_mixture_spec
from zhenlong.data.builtin_templates import builtin_template
from zhenlong.data.options import RowOptions
from zhenlong.errors import UserError
from zhenlong.forest import TreeNode, make_microbatches
from zhenlong.forest.scoring import log_prob_sums
from zhenlong.loop import Learner, Run, TrainingOptions
from zhenlong.models import ModelShape, init_model, load_tokenizer, save_model, train_tokenizer
from zhenlong.models.options import ModelOptions, NewModelOptions
from zhenlong.options import take_options
from zhenlong.options.keywords import PretrainKwargs
from zhenlong.records import Document
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.prepare_data import read_heldout, read_training_data
from zhenlong.stages.stage_steps import load_for_training, optimizer_step, resolve_max_length, token_loss


def pretrain(
    *,
    data: str,
    output: str,
    model: str = "",
    decay_data: str = "",
    heldout: str = "",
    tokenizer_data: str = "",
    kv_heads: int = 4,
    max_length: int = 512,
    **options: Unpack[PretrainKwargs],
) -> Path:
    """Train a base model on documents.

    Args:
        data: Documents: files, hf:owner/name or world:documents; several with weights as `a.txt*0.7,b.txt*0.3`.
        model: Model to go on from; empty makes a new Llama of the shape below.
        decay_data: Data for the decay phase of the wsd schedule; empty keeps `data` throughout.
        heldout: Documents to measure perplexity on before and after.
        tokenizer_data: Documents to train the tokenizer on; empty takes `data` and `decay_data`.
        kv_heads: Key and value heads of a new model; fewer than heads is grouped-query attention.
        max_length: Tokens of one sequence; longer documents are cut into pieces, and a new model's context is this.

    Returns the run folder. Equation: L = -1/T Σ log p(x_t | x_<t), T the scored tokens of the step.
    """
    config = dict(locals())
    row_options, new_model, model_options, training = take_options(
        options,
        RowOptions(),
        NewModelOptions(),
        ModelOptions(),
        TrainingOptions(lr=2e-3, schedule="wsd", warmup_steps=0.02, weight_decay=0.1),
    )
    if max_length < 2:
        raise UserError(f"max_length: expected 2 or more tokens, got {max_length}")
    if decay_data and parse_mixture_spec(data).has_decay_weights:
        raise UserError("decay_data: the data has weights for the decay phase already; give one of the two")
    if decay_data and training.schedule != "wsd":
        raise UserError(f"decay_data: needs the wsd schedule, whose decay phase it is for, got {training.schedule}")
    if model and (new_model.tokenizer or tokenizer_data):
        raise UserError("tokenizer: a model that is trained further keeps its own; leave the option out")
    if not model and model_options.lora_rank:
        raise UserError("lora_rank: a new model has no weights worth freezing; name a model, or set it to 0")
    with Run(
        output, config, training, name="pretrain", model_options=model_options, other_options=(row_options, new_model)
    ) as run:
        if run.finished:
            return run.output
        documents, read_order = read_training_data(run, data, Document, training, allow_decay_weights=True)
        decay_documents, decay_read_order = (
            read_training_data(run, decay_data, Document, training) if decay_data else ([], read_order)
        )
        if model:
            network, network_tokenizer = load_for_training(run, model)
        else:
            network_tokenizer = _load_or_train_tokenizer(
                new_model.tokenizer,
                read_heldout(run, tokenizer_data, Document) or [*documents, *decay_documents],
                new_model.vocab_size,
            )
            shape = ModelShape(
                new_model.hidden_size,
                new_model.layers,
                new_model.heads,
                kv_heads,
                new_model.intermediate_size,
                max_length,
            )
            network = init_model(shape, network_tokenizer, training.seed).to(run.device)
            if model_options.gradient_checkpointing:
                network.gradient_checkpointing_enable({"use_reentrant": False})
        context = min(max_length, resolve_max_length(network))
        trees, order = document_trees(documents, read_order, data, network_tokenizer, context)
        decay_trees, decay_order = document_trees(
            decay_documents, decay_read_order, decay_data, network_tokenizer, context
        )
        heldout_trees = _heldout_trees(run, heldout, network_tokenizer, context)
        total = training.total_steps(order.epoch_size)
        learner = Learner(network, training, total, dtype=run.dtype)
        run.track(learner=learner, order=order, decay_order=decay_order)
        results = {"perplexity_before": _perplexity(network, heldout_trees, training)} if heldout_trees else {}
        chat_template = "auto" if network_tokenizer.chat_template else "none"
        for _ in with_evaluations(run, network, network_tokenizer, run.steps(total), chat_template):
            decaying = learner.schedule_phase == "decay"
            phase_trees, phase_order = (decay_trees, decay_order) if decay_data and decaying else (trees, order)
            rows = phase_order.draw(training.batch_size, decay=decaying and not decay_data)
            batches = make_microbatches([phase_trees[row] for row in rows], training.tokens_per_microbatch, run.device)
            scored = sum(len(batch.forest.target) for batch in batches)
            run.log(optimizer_step(run, learner, batches, partial(token_loss, network), scored, rows))
        if heldout_trees:
            results["perplexity_after"] = _perplexity(network, heldout_trees, training)
        return run.finish(network, network_tokenizer, save_model, results)


def document_trees(
    documents: Sequence[Document],
    order: Mixture,
    data: str,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
) -> tuple[list[TreeNode], Mixture]:
    """Documents as trees of at most `context` tokens, and the order to draw them in, source by source as in `order`.

    A document begins with the tokenizer's start token where it has one, and ends with its end-of-text token; the first
    token of a piece has nothing before it and is not scored. Pieces of a single token teach nothing and are not made.
    """
    trees: list[TreeNode] = []
    sizes, first = [], 0
    for size in order.sizes if documents else ():
        before = len(trees)
        texts = [document.text for document in documents[first : first + size]]
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else ():
            trees.extend(_split_into_nodes(ids, tokenizer, context))
        if len(trees) == before:
            raise UserError(f"{data}: its documents are too short to learn from; expected more than one token each")
        sizes.append(len(trees) - before)
        first += size
    return trees, order.with_sizes(sizes or order.sizes)


def _split_into_nodes(ids: list[int], tokenizer: PreTrainedTokenizerBase, context: int) -> list[TreeNode]:
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    tokens = [*start, *ids, *end]
    pieces = [tokens[i : i + context] for i in range(0, len(tokens), context)]
    return [TreeNode(piece, [False] + [True] * (len(piece) - 1)) for piece in pieces if len(piece) > 1]


def _load_or_train_tokenizer(name: str, documents: Sequence[Document], vocab_size: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a new model: a given one, or one trained on the documents."""
    if name:
        return load_tokenizer(name)
    trained = train_tokenizer((document.text for document in documents), vocab_size)
    trained.chat_template = builtin_template(trained, "chatml")
    return trained


def _perplexity(network: PreTrainedModel, trees: Sequence[TreeNode], options: TrainingOptions) -> float:
    """exp of the mean negative log-probability of a token."""
    sums = log_prob_sums(network, trees, options.tokens_per_microbatch)
    return math.exp(-sum(float(found.sum()) for found in sums) / sum(node.num_scored for node in trees))


def _heldout_trees(run: Run, heldout: str, tokenizer: PreTrainedTokenizerBase, context: int) -> list[TreeNode]:
    if not heldout:
        return []
    documents = read_heldout(run, heldout, Document)
    return document_trees(documents, Mixture([len(documents)]), heldout, tokenizer, context)[0]
