"""Text classification by an encoder, a decoder or an encoder-decoder: from random weights, or from any model.

An encoder (BERT) reads the text both ways and its head looks at the first token; a decoder (Llama) reads it once from
left to right and its head looks at the last; an encoder-decoder (T5) is asked to say the label. What is learned is the
same: to give the right label a high probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional
from typing_extensions import Unpack

from zhenlong.data import BadRow, LengthLimit
from zhenlong.data.classification_rows import LabelledText, read_labelled_texts
from zhenlong.data.options import LengthOptions, RowOptions
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.classification import classification_metrics, label_scores, predict, token_cost
from zhenlong.forest.packing import microbatch_indices
from zhenlong.loop import FlopEstimator, Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import ModelShape, load_tokenizer, save_model
from zhenlong.models.classifier import (
    Architecture,
    Classifier,
    init_classifier,
    load_classifier,
    train_classifier_tokenizer,
)
from zhenlong.models.options import ModelOptions, NewModelOptions
from zhenlong.options import take_options
from zhenlong.options.keywords import ClassifyKwargs
from zhenlong.stages.prepare_data import resize_order, split_by_source, write_overlong_counts, write_skipped_rows
from zhenlong.stages.stage_steps import lora_of, resolve_max_length


@dataclass(frozen=True)
class TokenizedText:
    """A text's token ids and the number of its label."""

    ids: list[int]
    label: int


def classify(
    *,
    data: str,
    output: str,
    model: str = "",
    architecture: Architecture = "encoder",
    head: Literal["auto", "classes", "words"] = "auto",
    heldout: str = "",
    labels: str = "",
    **options: Unpack[ClassifyKwargs],
) -> Path:
    """Train a text classifier.

    Args:
        data: Labelled texts: rows with text and label, lines `label text`, folders or archives by label, hf:owner/name
            or world:sentiment; several with weights as `a.jsonl*0.7,b.jsonl*0.3`.
        model: Model to start from, of any architecture: a folder, a run folder or a hub id; empty makes a new one.
        architecture: What a new model is: encoder (like BERT), decoder (like Llama) or encoder_decoder (like T5).
        head: How a label is given: a score for each class, or for encoder-decoders words (auto), the label said.
        heldout: Labelled texts to measure accuracy on, before and after.
        labels: Names of the labels in the data, as `0=negative,1=positive`, or those to expect; empty takes the data's.

    Returns the run folder. Equation: L = -1/B Σ log p(label_i | text_i).
    """
    config = dict(locals())
    row_options, lengths, new_model, model_options, training = take_options(
        options,
        RowOptions(),
        LengthOptions(max_length=256, overlong="truncate"),
        NewModelOptions(layers=4),
        ModelOptions(),
        TrainingOptions(lr=2e-5, warmup_steps=0.1, weight_decay=0.01),
    )
    label_names = _check_options(training, labels)
    if model_options.lora_rank and not model:
        raise UserError("lora_rank: a new model has no weights worth freezing; name a model, or set it to 0")
    with Run(
        output,
        config,
        training,
        name="classify",
        model_options=model_options,
        other_options=(row_options, lengths, new_model),
    ) as run:
        if run.finished:
            return run.output
        rows, order, heldout_rows = _read_texts(run, data, heldout, label_names, row_options.skip_bad_rows)
        names = _order_labels([row.label for row in rows], label_names)
        if model:
            lora = lora_of(model_options)
            classifier = load_classifier(model, names, head, lora=lora, device=model_options.device, seed=training.seed)
        else:
            longest = lengths.max_length or 512
            new_tokenizer = (
                load_tokenizer(new_model.tokenizer)
                if new_model.tokenizer
                else _train_tokenizer(rows, new_model.vocab_size, longest)
            )
            shape = ModelShape(
                new_model.hidden_size,
                new_model.layers,
                new_model.heads,
                new_model.heads,
                new_model.intermediate_size,
                longest,
            )
            classifier = init_classifier(architecture, shape, new_tokenizer, names, head, training.seed)
            classifier.model.to(run.device)
        if model_options.gradient_checkpointing:
            classifier.model.gradient_checkpointing_enable({"use_reentrant": False})
        limit = LengthLimit(_max_text_length(classifier, lengths.max_length), lengths.overlong)
        tokenize = partial(_tokenize_examples, run, classifier, limit)
        examples, sizes = tokenize(rows, split_by_source(rows, order))
        order = resize_order(order, sizes)
        heldout_examples, _ = tokenize(heldout_rows, [heldout_rows]) if heldout_rows else ([], [])
        total = training.total_steps(order.epoch_size)
        learner, costs = Learner(classifier.model, training, total, dtype=run.dtype), ClassifierCost.of(classifier)
        run.track(learner=learner, order=order)
        evaluate = partial(_evaluate, classifier, heldout_examples, training)
        results = {"labels": list(classifier.labels), "architecture": classifier.architecture, "head": classifier.head,
                   "parameters": sum(p.numel() for p in classifier.model.parameters())}  # fmt: skip
        results |= {"before": evaluate()} if heldout_examples else {}
        for _ in run.steps(total):
            drawn_rows = order.draw(training.batch_size)
            step = [examples[row] for row in drawn_rows]
            run.log(classifier_step(run, learner, costs, step, partial(label_loss, classifier, step), drawn_rows))
        results |= {"after": evaluate()} if heldout_examples else {}
        return run.finish(classifier.model, classifier.tokenizer, save_model, results)


def label_loss(classifier: Classifier, step: Sequence[TokenizedText], rows: Sequence[int]) -> StepLoss:
    """The summed -log p(right label) of a micro-batch; words compete with the other labels' words alone.

    That is the softmax over label words of Schick and Schütze (2021, PET), which learns from few texts what T5's
    likelihood of a word among all words spends on ruling out the rest of the vocabulary.
    """
    scores = label_scores(classifier, [step[row].ids for row in rows])  # [B, K]
    target = torch.tensor([step[row].label for row in rows], device=scores.device)
    correct = (scores.detach().argmax(1) == target).float().sum()
    return StepLoss(functional.cross_entropy(scores, target, reduction="sum"), {"accuracy": correct})


@dataclass(frozen=True)
class ClassifierCost:
    """The arithmetic of reading texts, and for words that of saying labels of so many tokens in all."""

    text_cost: FlopEstimator
    label_cost: FlopEstimator | None
    label_tokens: int
    causal: bool

    @classmethod
    def of(cls, classifier: Classifier) -> ClassifierCost:
        network, causal = classifier.model, classifier.architecture == "decoder"
        if classifier.architecture != "encoder_decoder":
            return cls(FlopEstimator.for_model(network), None, 0, causal)
        label_tokens = sum(map(len, classifier.verbalizers)) or 1
        return cls(
            FlopEstimator.for_model(network.get_encoder()),
            FlopEstimator.for_model(network.get_decoder()),
            label_tokens,
            causal,
        )

    def train(self, lengths: Sequence[int]) -> float:
        """FLOPs of a forward and backward pass over texts of these lengths."""
        pairs = sum(n * (n + 1) / 2 if self.causal else n * n for n in lengths)
        read = self.text_cost.train(sum(lengths), len(lengths), pairs)
        if self.label_cost is None:
            return read
        across = self.label_tokens * sum(lengths)  # every label's tokens look at the whole text
        return read + self.label_cost.train(self.label_tokens * len(lengths), None, across)


def classifier_step(
    run: Run,
    learner: Learner,
    costs: ClassifierCost,
    step: Sequence[TokenizedText],
    loss: Callable[[Sequence[int]], StepLoss],
    record_ids: Sequence[int],
) -> dict[str, float]:
    """One optimiser step over micro-batches cut by tokens, normalised by the texts of the whole step."""
    classifier: Classifier = loss.args[0]  # type: ignore[attr-defined]
    groups = microbatch_indices([token_cost(classifier, one.ids) for one in step], run.options.tokens_per_microbatch)
    metrics = learner.step(groups, loss, len(step), [[record_ids[row] for row in group] for group in groups])
    lengths = [len(one.ids) for one in step]
    run.ledger.count(tokens=sum(lengths), flops=costs.train(lengths))
    return metrics


def _check_options(options: TrainingOptions, labels: str) -> dict[str, str]:
    """The names that `labels` gives; raises `UserError` for options that do not go together."""
    for name in ("evaluate_every", "sample_every"):
        if getattr(options, name):
            raise UserError(f"{name}: expected 0, for a classifier answers nothing, got {getattr(options, name)}")
    pairs = [one.strip().partition("=") for one in labels.split(",")] if labels.strip() else []
    label_names = {old.strip(): (new or old).strip() for old, _, new in pairs}
    if any(not old or not new for old, new in label_names.items()) or len(label_names) < len(pairs):
        raise UserError(f"labels: expected names such as 0=negative,1=positive, each once, got {labels!r}")
    return label_names


def _read_texts(
    run: Run, data: str, heldout: str, label_names: dict[str, str], skip_bad_rows: bool
) -> tuple[Any, Any, Any]:
    found = []
    for what, spec in (("data", data), ("heldout", heldout)):
        skipped: list[BadRow] = []
        rows, order = (
            read_labelled_texts(spec, seed=run.options.seed, skip_bad_rows=skip_bad_rows, skipped=skipped)
            if spec
            else ([], None)
        )
        write_skipped_rows(run, what, skipped)
        unknown = sorted({row.label for row in rows} - set(label_names)) if label_names else []
        if unknown:
            raise UserError(f"labels: {spec} has {', '.join(unknown[:5])}; expected {', '.join(label_names)}")
        found.append(([LabelledText(row.text, label_names.get(row.label, row.label)) for row in rows], order))
    (rows, order), (held, _) = found
    unseen_labels = sorted({row.label for row in held} - {row.label for row in rows})
    if unseen_labels:
        raise UserError(
            f"heldout: the labels {', '.join(unseen_labels[:5])} are not in the data, so nothing can learn them"
        )
    return rows, order, held


def _order_labels(labels: Sequence[str], label_names: dict[str, str]) -> list[str]:
    """The labels in the order given, or by number, or by name."""
    seen = set(labels)
    if len(seen) < 2:
        raise UserError(f"data: expected two labels or more, got only {', '.join(seen)}")
    given = [name for name in dict.fromkeys(label_names.values()) if name in seen]
    return given or sorted(seen, key=lambda label: (0, int(label), "") if label.isdecimal() else (1, 0, label))


def _train_tokenizer(rows: Sequence[LabelledText], vocab_size: int, max_length: int) -> Any:
    """Of the texts and of the labels as often as they occur, for an encoder-decoder says them."""
    texts = [part for row in rows for part in (row.text, row.label)]
    return train_classifier_tokenizer(texts, vocab_size, max_length)


def _max_text_length(classifier: Classifier, max_length: int) -> int:
    """Tokens of the longest text; models with relative positions (T5) have no limit of their own."""
    if classifier.architecture == "encoder_decoder" and not getattr(
        classifier.model.config, "max_position_embeddings", None
    ):
        return max_length or 512
    return resolve_max_length(classifier.model, max_length)


def _tokenize_examples(
    run: Run,
    classifier: Classifier,
    limit: LengthLimit,
    rows: Sequence[LabelledText],
    sources: Sequence[Sequence[LabelledText]],
) -> tuple[list[TokenizedText], list[int]]:
    """The texts as token ids, source by source, and how many of each source are left."""
    max_length, overlong = limit.max_length, limit.overlong
    number = {label: place for place, label in enumerate(classifier.labels)}
    examples: list[TokenizedText] = []
    sizes, truncated, dropped = [], 0, 0
    for source in sources:
        before = len(examples)
        for row in source:
            ids = classifier.tokenizer(row.text, verbose=False)["input_ids"]
            if len(ids) > max_length and overlong == "error":
                raise UserError(
                    f"text {len(examples) + dropped + 1}: {len(ids)} tokens, more than the maximum length "
                    f"of {max_length}; raise it, or choose to truncate or drop what is too long"
                )
            if len(ids) > max_length and overlong == "drop":
                dropped += 1
                continue
            if len(ids) > max_length:
                truncated += 1
                ids = classifier.tokenizer(row.text, truncation=True, max_length=max_length)["input_ids"]
            examples.append(TokenizedText(ids, number[row.label]))
        sizes.append(len(examples) - before)
    write_overlong_counts(run, truncated, dropped)
    return examples, sizes


def _evaluate(classifier: Classifier, examples: Sequence[TokenizedText], options: TrainingOptions) -> dict[str, Any]:
    found = predict(
        classifier, [one.ids for one in examples], [one.label for one in examples], options.tokens_per_microbatch
    )
    return classification_metrics(found, classifier.labels)
