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

from zhenlong.data import BadRow, Overlong
from zhenlong.data.labelled import Labelled, read_labelled
from zhenlong.errors import UserError
from zhenlong.evaluate.classification import cost_of, label_scores, measures, predict
from zhenlong.forest.budget import micro_batches
from zhenlong.loop import Cost, Learner, Options, Run, StepLoss
from zhenlong.models import Lora, Shape, load_tokenizer, save_model
from zhenlong.models.classifier import Classifier, Form, classifier_tokenizer, fresh_classifier, load_classifier
from zhenlong.stages.setup import context_of
from zhenlong.stages.trees import by_source, note_lengths, note_skipped, resized


@dataclass(frozen=True)
class Example:
    """A text's token ids and the number of its label."""

    ids: list[int]
    label: int


def classify(
    *,
    data: str,
    output: str,
    model: str = "",
    architecture: Form = "encoder",
    head: Literal["auto", "classes", "words"] = "auto",
    heldout: str = "",
    labels: str = "",
    tokenizer: str = "",
    vocabulary: int = 4096,
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    intermediate_size: int = 384,
    max_length: int = 256,
    too_long: Overlong = "truncate",
    skip_bad_rows: bool = False,
    lr: float = 2e-5,
    warmup_steps: float = 0.1,
    weight_decay: float = 0.01,
    **training: Any,
) -> Path:
    """Train a text classifier.

    Args:
        data: Labelled texts: rows with text and label, lines `label text`, folders or archives by label, hf:owner/name
            or world:sentiment; several with weights as `a.jsonl*0.7,b.jsonl*0.3`.
        output: Run folder to make.
        model: Model to start from, of any architecture: a folder, a run folder or a hub id; empty makes a new one.
        architecture: What a new model is: encoder (like BERT), decoder (like Llama) or encoder_decoder (like T5).
        head: How a label is given: a score for each class, or for encoder-decoders words (auto), the label said.
        heldout: Labelled texts to measure accuracy on, before and after.
        labels: Names of the labels in the data, as `0=negative,1=positive`, or those to expect; empty takes the data's.
        tokenizer: Tokenizer of a new model: a folder or hub id; empty trains one on the data.
        vocabulary: Size of the tokenizer to train.
        hidden_size: Width of a new model.
        layers: Layers of a new model; an encoder-decoder gives half of them to each part.
        heads: Attention heads of a new model.
        intermediate_size: Width of a new model's feed-forward layers.
        max_length: Tokens of the longest text; 0 takes the model's context.
        too_long: What to do with a longer one: stop with an error, truncate its end, or drop it; both are counted.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate; 2e-5 for a pretrained model, 5e-4 to 1e-3 for a new small one.
        warmup_steps: Steps of linear warm-up; below 1 a fraction of all steps.
        weight_decay: Decoupled weight decay of matrices.

    Returns the run folder. Equation: L = -1/B Σ log p(label_i | text_i).
    """
    config = dict(locals())
    options = Options(lr=lr, warmup_steps=warmup_steps, weight_decay=weight_decay, **training)
    renamed = _check(options, model, labels)
    with Run(output, config, options, "classify") as run:
        if run.finished:
            return run.output
        rows, order, held = _read(run, data, heldout, renamed, skip_bad_rows)
        names = _names([row.label for row in rows], renamed)
        if model:
            lora = Lora(options.lora_rank, options.lora_alpha, options.lora_dropout, options.lora_targets)
            adapter = lora if options.lora_rank else None
            classifier = load_classifier(model, names, head, lora=adapter, device=options.device, seed=options.seed)
        else:
            longest = max_length or 512
            words = load_tokenizer(tokenizer) if tokenizer else _trained_tokenizer(rows, vocabulary, longest)
            shape = Shape(hidden_size, layers, heads, heads, intermediate_size, longest)
            classifier = fresh_classifier(architecture, shape, words, names, head, options.seed)
            classifier.network.to(run.device)
        if options.gradient_checkpointing:
            classifier.network.gradient_checkpointing_enable({"use_reentrant": False})
        fit = partial(_examples, run, classifier, _longest(classifier, max_length), too_long)
        examples, kept = fit(rows, by_source(rows, order))
        order = resized(order, kept)
        tests, _ = fit(held, [held]) if held else ([], [])
        total = options.total_steps(order.epoch)
        learner, costs = Learner(classifier.network, options, total), Costs.of(classifier)
        run.track(learner=learner, order=order)
        measured = partial(_measured, classifier, tests, options)
        results = {"labels": list(classifier.labels), "form": classifier.form, "head": classifier.head,
                   "parameters": sum(p.numel() for p in classifier.network.parameters())}  # fmt: skip
        results |= {"before": measured()} if tests else {}
        for _ in run.steps(total):
            drawn = order.draw(options.batch_size)
            step = [examples[row] for row in drawn]
            run.log(update(run, learner, costs, step, partial(label_loss, classifier, step), drawn))
        results |= {"after": measured()} if tests else {}
        return run.finish(classifier.network, classifier.tokenizer, save_model, results)


def label_loss(classifier: Classifier, step: Sequence[Example], rows: Sequence[int]) -> StepLoss:
    """The summed -log p(right label) of a micro-batch; words compete with the other labels' words alone.

    That is the softmax over label words of Schick and Schütze (2021, PET), which learns from few texts what T5's
    likelihood of a word among all words spends on ruling out the rest of the vocabulary.
    """
    scores = label_scores(classifier, [step[row].ids for row in rows])  # [B, K]
    target = torch.tensor([step[row].label for row in rows], device=scores.device)
    right = (scores.detach().argmax(1) == target).float().sum()
    return StepLoss(functional.cross_entropy(scores, target, reduction="sum"), {"accuracy": right})


@dataclass(frozen=True)
class Costs:
    """The arithmetic of reading texts, and for words that of saying labels of so many tokens in all."""

    reading: Cost
    saying: Cost | None
    label_tokens: int
    causal: bool

    @classmethod
    def of(cls, classifier: Classifier) -> Costs:
        network, causal = classifier.network, classifier.form == "decoder"
        if classifier.form != "encoder_decoder":
            return cls(Cost.of(network), None, 0, causal)
        said = sum(map(len, classifier.words)) or 1
        return cls(Cost.of(network.get_encoder()), Cost.of(network.get_decoder()), said, causal)

    def train(self, lengths: Sequence[int]) -> float:
        """FLOPs of a forward and backward pass over texts of these lengths."""
        pairs = sum(n * (n + 1) / 2 if self.causal else n * n for n in lengths)
        read = self.reading.train(sum(lengths), len(lengths), pairs)
        if self.saying is None:
            return read
        across = self.label_tokens * sum(lengths)  # every label's tokens look at the whole text
        return read + self.saying.train(self.label_tokens * len(lengths), None, across)


def update(
    run: Run,
    learner: Learner,
    costs: Costs,
    step: Sequence[Example],
    loss: Callable[[Sequence[int]], StepLoss],
    drawn: Sequence[int],
) -> dict[str, float]:
    """One optimiser step over micro-batches cut by tokens, normalised by the texts of the whole step."""
    classifier: Classifier = loss.args[0]  # type: ignore[attr-defined]
    groups = micro_batches([cost_of(classifier, one.ids) for one in step], run.options.tokens_per_microbatch)
    metrics = learner.step(groups, loss, len(step), [[drawn[row] for row in group] for group in groups])
    lengths = [len(one.ids) for one in step]
    run.ledger.count(tokens=sum(lengths), flops=costs.train(lengths))
    return metrics


def _check(options: Options, model: str, labels: str) -> dict[str, str]:
    """The names that `labels` gives; raises `UserError` for options that do not go together."""
    for name in ("evaluate_every", "sample_every"):
        if getattr(options, name):
            raise UserError(f"{name}: expected 0, for a classifier answers nothing, got {getattr(options, name)}")
    if options.lora_rank and not model:
        raise UserError("lora_rank: a new model has no weights worth freezing; name a model, or set it to 0")
    pairs = [one.strip().partition("=") for one in labels.split(",")] if labels.strip() else []
    found = {old.strip(): (new or old).strip() for old, _, new in pairs}
    if any(not old or not new for old, new in found.items()) or len(found) < len(pairs):
        raise UserError(f"labels: expected names such as 0=negative,1=positive, each once, got {labels!r}")
    return found


def _read(run: Run, data: str, heldout: str, renamed: dict[str, str], skip: bool) -> tuple[Any, Any, Any]:
    found = []
    for what, spec in (("data", data), ("heldout", heldout)):
        skipped: list[BadRow] = []
        rows, order = (
            read_labelled(spec, seed=run.options.seed, skip_bad_rows=skip, skipped=skipped) if spec else ([], None)
        )
        note_skipped(run, what, skipped)
        unknown = sorted({row.label for row in rows} - set(renamed)) if renamed else []
        if unknown:
            raise UserError(f"labels: {spec} has {', '.join(unknown[:5])}; expected {', '.join(renamed)}")
        found.append(([Labelled(row.text, renamed.get(row.label, row.label)) for row in rows], order))
    (rows, order), (held, _) = found
    strange = sorted({row.label for row in held} - {row.label for row in rows})
    if strange:
        raise UserError(f"heldout: the labels {', '.join(strange[:5])} are not in the data, so nothing can learn them")
    return rows, order, held


def _names(labels: Sequence[str], renamed: dict[str, str]) -> list[str]:
    """The labels in the order given, or by number, or by name."""
    seen = set(labels)
    if len(seen) < 2:
        raise UserError(f"data: expected two labels or more, got only {', '.join(seen)}")
    given = [name for name in dict.fromkeys(renamed.values()) if name in seen]
    return given or sorted(seen, key=lambda label: (0, int(label), "") if label.isdecimal() else (1, 0, label))


def _trained_tokenizer(rows: Sequence[Labelled], vocabulary: int, max_length: int) -> Any:
    """Of the texts and of the labels as often as they occur, for an encoder-decoder says them."""
    said = [part for row in rows for part in (row.text, row.label)]
    return classifier_tokenizer(said, vocabulary, max_length)


def _longest(classifier: Classifier, max_length: int) -> int:
    """Tokens of the longest text; models with relative positions (T5) have no limit of their own."""
    if classifier.form == "encoder_decoder" and not getattr(classifier.network.config, "max_position_embeddings", None):
        return max_length or 512
    return context_of(classifier.network, max_length)


def _examples(
    run: Run,
    classifier: Classifier,
    longest: int,
    too_long: Overlong,
    rows: Sequence[Labelled],
    sources: Sequence[Sequence[Labelled]],
) -> tuple[list[Example], list[int]]:
    """The texts as token ids, source by source, and how many of each source are left."""
    number = {label: place for place, label in enumerate(classifier.labels)}
    found: list[Example] = []
    sizes, cut, dropped = [], 0, 0
    for source in sources:
        before = len(found)
        for row in source:
            ids = classifier.tokenizer(row.text, verbose=False)["input_ids"]
            if len(ids) > longest and too_long == "error":
                raise UserError(
                    f"text {len(found) + dropped + 1}: {len(ids)} tokens, more than the maximum length of {longest}; "
                    "raise it, or choose to truncate or drop what is too long"
                )
            if len(ids) > longest and too_long == "drop":
                dropped += 1
                continue
            if len(ids) > longest:
                cut += 1
                ids = classifier.tokenizer(row.text, truncation=True, max_length=longest)["input_ids"]
            found.append(Example(ids, number[row.label]))
        sizes.append(len(found) - before)
    note_lengths(run, cut, dropped)
    return found, sizes


def _measured(classifier: Classifier, tests: Sequence[Example], options: Options) -> dict[str, Any]:
    found = predict(classifier, [one.ids for one in tests], [one.label for one in tests], options.tokens_per_microbatch)
    return measures(found, classifier.labels)
