"""Predictions of a text classifier and their metrics.

Decoders run through the token forest without padding; encoders and encoder-decoders in padded batches of similar
length. The composition of a batch changes no score beyond rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zhenlong.evaluate.metrics.calibration import calibration_error
from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.forest import forward, pack_trees
from zhenlong.forest.packing import TreeNode, microbatch_indices
from zhenlong.models.classifier import Classifier
from zhenlong.randomness import eval_mode


@dataclass(frozen=True)
class Predictions:
    """For n texts, the index of the true label [n] and the probability of each label [n, K]."""

    true_labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most likely label of each text."""
        return np.asarray(self.probabilities.argmax(1))

    @property
    def correct(self) -> NDArray[np.float64]:
        """1 where the prediction is right, else 0."""
        return (self.predicted == self.true_labels).astype(np.float64)


def label_scores(classifier: Classifier, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token ids of n texts -> [n, K] in float32: the head's logits, or log p(verbalizer | text) of each label."""
    if classifier.head == "words":
        return _verbalizer_scores(classifier, texts)
    if classifier.architecture == "decoder" and hasattr(_base_model(classifier), "score"):
        planted = pack_trees([TreeNode(ids) for ids in texts], classifier.model.device)
        hidden = forward(classifier.model, planted, None)
        last = torch.tensor([text.start + text.length - 1 for text in planted.segments], device=hidden.device)
        return _base_model(classifier).score(hidden.index_select(0, last)).float()
    ids, mask = pad_batch(classifier, texts)
    return classifier.model(input_ids=ids, attention_mask=mask).logits.float()


def token_cost(classifier: Classifier, text: Sequence[int]) -> int:
    """The tokens that a text counts in a batch: its own, plus those of all verbalizers if they are scored."""
    return len(text) + sum(map(len, classifier.verbalizers))


def predict(
    classifier: Classifier,
    texts: Sequence[Sequence[int]],
    true_labels: Sequence[int],
    tokens_per_microbatch: int = 8192,
) -> Predictions:
    """The probability of each label for each text. Leaves train/eval modes and RNG states unchanged."""
    found = np.zeros((len(texts), len(classifier.labels)))
    with eval_mode(classifier.model):
        for group in microbatch_indices([token_cost(classifier, text) for text in texts], tokens_per_microbatch):
            scores = label_scores(classifier, [texts[row] for row in group])
            found[group] = scores.double().softmax(1).cpu().numpy()
    return Predictions(np.asarray(true_labels, dtype=np.int64), found)


def classification_metrics(predictions: Predictions, labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy with Wilson's interval, macro F1, calibration error, and the accuracy of guessing.

    `nll` is the mean of -log p(true label) in nats; `ece_10_bin` the expected calibration error over ten bins of equal
    mass; `majority` the fraction of the most frequent label.
    """
    from sklearn.metrics import f1_score  # slow to import, needed only here

    n = len(predictions.true_labels)
    true_label_probabilities = np.clip(predictions.probabilities[np.arange(n), predictions.true_labels], 1e-12, 1)
    counts = np.bincount(predictions.true_labels, minlength=len(labels))
    return {
        "accuracy": mean_interval(predictions.correct).as_json(),
        "f1_macro": float(f1_score(predictions.true_labels, predictions.predicted, average="macro", zero_division=0)),
        "nll": float(-np.log(true_label_probabilities).mean()),
        "ece_10_bin": calibration_error(predictions.probabilities.max(1), predictions.correct),
        "majority": float(counts.max() / n),
        "by_label": {
            label: mean_interval(predictions.correct[predictions.true_labels == number]).as_json()
            for number, label in enumerate(labels)
            if counts[number]
        },
    }


def pad_batch(classifier: Classifier, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both [B, T], padded on the tokenizer's padding side."""
    width = max(map(len, texts))
    ids = torch.full((len(texts), width), int(classifier.tokenizer.pad_token_id or 0), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        place = (
            slice(width - len(text), None) if classifier.tokenizer.padding_side == "left" else slice(None, len(text))
        )
        ids[row, place] = torch.tensor(text)
        mask[row, place] = 1
    return ids.to(classifier.model.device), mask.to(classifier.model.device)


def _verbalizer_scores(classifier: Classifier, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """log p(verbalizer | text) of every label; the text is encoded once."""
    ids, mask = pad_batch(classifier, texts)
    device, k, longest = ids.device, len(classifier.verbalizers), max(map(len, classifier.verbalizers))
    target = torch.zeros(k, longest, dtype=torch.long, device=device)
    real = torch.zeros(k, longest, device=device)
    for row, word in enumerate(classifier.verbalizers):
        target[row, : len(word)] = torch.tensor(word, device=device)
        real[row, : len(word)] = 1
    start = torch.full((k, 1), _decoder_start_id(classifier), dtype=torch.long, device=device)
    given = torch.cat([start, target[:, :-1]], 1).repeat(len(texts), 1)  # [B*K, L]
    read = classifier.model.get_encoder()(input_ids=ids, attention_mask=mask)
    read.last_hidden_state = read.last_hidden_state.repeat_interleave(k, 0)
    logits = classifier.model(
        encoder_outputs=read,
        attention_mask=mask.repeat_interleave(k, 0),
        decoder_input_ids=given,
        use_cache=False,
    ).logits.float()
    every = logits.log_softmax(-1).gather(2, target.repeat(len(texts), 1)[..., None]).squeeze(2)  # [B*K, L]
    return (every * real.repeat(len(texts), 1)).sum(1).view(len(texts), k)


def _decoder_start_id(classifier: Classifier) -> int:
    found = classifier.model.config.decoder_start_token_id
    return int(classifier.tokenizer.pad_token_id if found is None else found)


def _base_model(classifier: Classifier) -> Any:
    network = classifier.model
    return network.get_base_model() if hasattr(network, "get_base_model") else network
