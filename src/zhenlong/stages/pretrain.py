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
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.data import Mixture, parse_blend
from zhenlong.data.builtin_templates import built_in
from zhenlong.errors import UserError
from zhenlong.evaluate.scoring import log_prob_sums
from zhenlong.forest import Batch, Node, forward, log_probs, plant_batches
from zhenlong.loop import Cost, Learner, Options, Run, StepLoss
from zhenlong.loop.options import Schedule
from zhenlong.models import Shape, fresh_model, load_tokenizer, save_model, train_tokenizer
from zhenlong.objectives.likelihood import negative_log_likelihood
from zhenlong.records import Document
from zhenlong.stages.evaluations import evaluated
from zhenlong.stages.setup import context_of, load, update
from zhenlong.stages.trees import read_all, read_heldout


def pretrain(
    *,
    data: str,
    output: str,
    model: str = "",
    decay_data: str = "",
    heldout: str = "",
    tokenizer: str = "",
    tokenizer_data: str = "",
    vocabulary: int = 4096,
    hidden_size: int = 128,
    layers: int = 6,
    heads: int = 4,
    kv_heads: int = 4,
    intermediate_size: int = 384,
    max_length: int = 512,
    lr: float = 2e-3,
    schedule: Schedule = "wsd",
    warmup_steps: float = 0.02,
    weight_decay: float = 0.1,
    skip_bad_rows: bool = False,
    **training: Any,
) -> Path:
    """Train a base model on documents.

    Args:
        data: Documents: files, hf:owner/name or world:documents; several with weights as `a.txt*0.7,b.txt*0.3`.
        output: Run folder to make.
        model: Model to go on from; empty makes a new Llama of the shape below.
        decay_data: Data for the decay phase of the wsd schedule; empty keeps `data` throughout.
        heldout: Documents to measure perplexity on before and after.
        tokenizer: Tokenizer of a new model: a folder or hub id; empty trains a byte-level BPE.
        tokenizer_data: Documents to train the tokenizer on; empty takes `data` and `decay_data`.
        vocabulary: Size of the tokenizer to train.
        hidden_size: Width of a new model.
        layers: Decoder layers of a new model.
        heads: Attention heads of a new model.
        kv_heads: Key and value heads of a new model; fewer than heads is grouped-query attention.
        intermediate_size: Width of a new model's feed-forward layers.
        max_length: Tokens of one sequence; longer documents are cut into pieces, and a new model's context is this.
        lr: Peak learning rate.
        schedule: Learning rate after the warm-up.
        warmup_steps: Steps of linear warm-up; below 1 a fraction of all steps.
        weight_decay: Decoupled weight decay of matrices.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.

    Returns the run folder. Equation: L = -1/T Σ log p(x_t | x_<t), T the scored tokens of the step.
    """
    config = dict(locals())
    options = Options(lr=lr, schedule=schedule, warmup_steps=warmup_steps, weight_decay=weight_decay, **training)
    if max_length < 2:
        raise UserError(f"max_length: expected 2 or more tokens, got {max_length}")
    if decay_data and parse_blend(data).phased:
        raise UserError("decay_data: the data has weights for the decay phase already; give one of the two")
    if decay_data and schedule != "wsd":
        raise UserError(f"decay_data: needs the wsd schedule, whose decay phase it is for, got {schedule}")
    if model and (tokenizer or tokenizer_data):
        raise UserError("tokenizer: a model that is trained further keeps its own; leave the option out")
    if not model and options.lora_rank:
        raise UserError("lora_rank: a new model has no weights worth freezing; name a model, or set it to 0")
    with Run(output, config, options, "pretrain") as run:
        if run.finished:
            return run.output
        documents, read_order = read_all(run, data, Document, options, phased=True)
        late_documents, late_read = read_all(run, decay_data, Document, options) if decay_data else ([], read_order)
        if model:
            network, words = load(model, options)
        else:
            words = _tokenizer(
                tokenizer, read_heldout(run, tokenizer_data, Document) or [*documents, *late_documents], vocabulary
            )
            shape = Shape(hidden_size, layers, heads, kv_heads, intermediate_size, max_length)
            network = fresh_model(shape, words, options.seed).to(run.device)
            if options.gradient_checkpointing:
                network.gradient_checkpointing_enable({"use_reentrant": False})
        context = min(max_length, context_of(network))
        trees, order = in_pieces(documents, read_order, data, words, context)
        late, late_order = in_pieces(late_documents, late_read, decay_data, words, context)
        held = _read_heldout(run, heldout, words, context)
        total = options.total_steps(order.epoch)
        learner, cost = Learner(network, options, total), Cost.of(network)
        run.track(learner=learner, order=order, late_order=late_order)
        results = {"perplexity_before": _perplexity(network, held, options)} if held else {}
        talks = "auto" if words.chat_template else "none"
        for _ in evaluated(run, network, words, run.steps(total), talks):
            decaying = learner.phase == "decay"
            source, draw = (late, late_order) if decay_data and decaying else (trees, order)
            rows = draw.draw(options.batch_size, late=decaying and not decay_data)
            batches = plant_batches([source[row] for row in rows], options.tokens_per_microbatch, run.device)
            scored = sum(len(batch.forest.target) for batch in batches)
            run.log(update(run, learner, cost, batches, partial(token_loss, network), scored, rows))
        if held:
            results["perplexity_after"] = _perplexity(network, held, options)
        return run.finish(network, words, save_model, results)


def token_loss(network: PreTrainedModel, batch: Batch) -> StepLoss:
    """The summed negative log-likelihood of a micro-batch's scored tokens."""
    states = forward(network, batch.forest)
    return StepLoss(negative_log_likelihood(log_probs(network, states, batch.forest)))


def in_pieces(
    documents: Sequence[Document],
    order: Mixture,
    data: str,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
) -> tuple[list[Node], Mixture]:
    """Documents as trees of at most `context` tokens, and the order to draw them in, source by source as in `order`.

    A document begins with the tokenizer's start token where it has one, and ends with its end-of-text token; the first
    token of a piece has nothing before it and is not scored. Pieces of a single token teach nothing and are not made.
    """
    trees: list[Node] = []
    sizes, first = [], 0
    for size in order.sizes if documents else ():
        before = len(trees)
        texts = [document.text for document in documents[first : first + size]]
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else ():
            trees.extend(_pieces(ids, tokenizer, context))
        if len(trees) == before:
            raise UserError(f"{data}: its documents are too short to learn from; expected more than one token each")
        sizes.append(len(trees) - before)
        first += size
    return trees, order.resized(sizes or order.sizes)


def _pieces(ids: list[int], tokenizer: PreTrainedTokenizerBase, context: int) -> list[Node]:
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    whole = [*start, *ids, *end]
    pieces = [whole[i : i + context] for i in range(0, len(whole), context)]
    return [Node(piece, [False] + [True] * (len(piece) - 1)) for piece in pieces if len(piece) > 1]


def _tokenizer(name: str, documents: Sequence[Document], vocabulary: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a new model: a given one, or one trained on the documents."""
    if name:
        return load_tokenizer(name)
    made = train_tokenizer((document.text for document in documents), vocabulary)
    made.chat_template = built_in(made, "chatml")
    return made


def _perplexity(network: PreTrainedModel, trees: Sequence[Node], options: Options) -> float:
    """exp of the mean negative log-probability of a token."""
    sums = log_prob_sums(network, trees, options.tokens_per_microbatch)
    return math.exp(-sum(float(found.sum()) for found in sums) / sum(node.scored_tokens for node in trees))


def _read_heldout(run: Run, heldout: str, tokenizer: PreTrainedTokenizerBase, context: int) -> list[Node]:
    if not heldout:
        return []
    documents = read_heldout(run, heldout, Document)
    return in_pieces(documents, Mixture([len(documents)]), heldout, tokenizer, context)[0]
