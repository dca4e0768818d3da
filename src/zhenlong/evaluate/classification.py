"""What a classifier says of texts, and how often it is right.

Decoders go through the token forest, without padding; encoders and encoder-decoders in padded rows of similar length.
Which texts share a batch never changes a score beyond rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zhenlong.evaluate.statistics import interval
from zhenlong.forest import forward, plant
from zhenlong.forest.budget import micro_batches
from zhenlong.forest.planting import Node
from zhenlong.loop.randomness import evaluating
from zhenlong.models.classifier import Classifier

BINS = 10


@dataclass(frozen=True)
class Predictions:
    """For n texts the number of the right label and the probability of each label, [n, K]."""

    right: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest label of each text."""
        return np.asarray(self.probabilities.argmax(1))

    @property
    def correct(self) -> NDArray[np.float64]:
        """1 where the likeliest label is right, else 0."""
        return (self.predicted == self.right).astype(np.float64)


def label_scores(one: Classifier, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token ids of texts -> [texts, K] in float32: the head's logits, or log p(label | text) of each label's word."""
    if one.head == "words":
        return _word_scores(one, texts)
    if one.form == "decoder" and hasattr(_inner(one), "score"):
        planted = plant([Node(ids) for ids in texts], one.network.device)
        hidden = forward(one.network, planted, None)
        last = torch.tensor([text.start + text.length - 1 for text in planted.segments], device=hidden.device)
        return _inner(one).score(hidden.index_select(0, last)).float()
    ids, mask = padded(one, texts)
    return one.network(input_ids=ids, attention_mask=mask).logits.float()


def cost_of(one: Classifier, text: Sequence[int]) -> int:
    """What a text counts against a budget of tokens: its own, and those of all labels where they are scored."""
    return len(text) + sum(map(len, one.words))


def predict(
    one: Classifier, texts: Sequence[Sequence[int]], right: Sequence[int], tokens_per_microbatch: int = 8192
) -> Predictions:
    """The probability of each label for each text. Modes and random states are kept."""
    found = np.zeros((len(texts), len(one.labels)))
    with evaluating(one.network):
        for group in micro_batches([cost_of(one, text) for text in texts], tokens_per_microbatch):
            scores = label_scores(one, [texts[row] for row in group])
            found[group] = scores.double().softmax(1).cpu().numpy()
    return Predictions(np.asarray(right, dtype=np.int64), found)


def measures(found: Predictions, labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy with Wilson's interval, macro F1, the error of the confidence, and what guessing would give.

    `nll` is the mean of -log p(right label) in nats; `ece_10_bin` the expected calibration error over ten bins of equal
    width (Guo et al. 2017); `majority` the share of the commonest label.
    """
    from sklearn.metrics import f1_score  # slow to import, and needed here only

    n = len(found.right)
    sure = np.clip(found.probabilities[np.arange(n), found.right], 1e-12, 1)
    counts = np.bincount(found.right, minlength=len(labels))
    return {
        "accuracy": interval(found.correct).as_json(),
        "f1_macro": float(f1_score(found.right, found.predicted, average="macro", zero_division=0)),
        "nll": float(-np.log(sure).mean()),
        "ece_10_bin": _calibration_error(found),
        "majority": float(counts.max() / n),
        "by_label": {
            label: interval(found.correct[found.right == number]).as_json()
            for number, label in enumerate(labels)
            if counts[number]
        },
    }


def padded(one: Classifier, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both [B, T]: padding by length, on the side where the tokenizer puts it."""
    width = max(map(len, texts))
    ids = torch.full((len(texts), width), int(one.tokenizer.pad_token_id or 0), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        place = slice(width - len(text), None) if one.tokenizer.padding_side == "left" else slice(None, len(text))
        ids[row, place] = torch.tensor(text)
        mask[row, place] = 1
    return ids.to(one.network.device), mask.to(one.network.device)


def _word_scores(one: Classifier, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """log p(word | text) of every label's word, the text read once for all of them."""
    ids, mask = padded(one, texts)
    device, k, longest = ids.device, len(one.words), max(map(len, one.words))
    target = torch.zeros(k, longest, dtype=torch.long, device=device)
    real = torch.zeros(k, longest, device=device)
    for row, word in enumerate(one.words):
        target[row, : len(word)] = torch.tensor(word, device=device)
        real[row, : len(word)] = 1
    start = torch.full((k, 1), _start(one), dtype=torch.long, device=device)
    given = torch.cat([start, target[:, :-1]], 1).repeat(len(texts), 1)  # [B*K, L]
    read = one.network.get_encoder()(input_ids=ids, attention_mask=mask)
    read.last_hidden_state = read.last_hidden_state.repeat_interleave(k, 0)
    logits = one.network(
        encoder_outputs=read,
        attention_mask=mask.repeat_interleave(k, 0),
        decoder_input_ids=given,
        use_cache=False,
    ).logits.float()
    every = logits.log_softmax(-1).gather(2, target.repeat(len(texts), 1)[..., None]).squeeze(2)  # [B*K, L]
    return (every * real.repeat(len(texts), 1)).sum(1).view(len(texts), k)


def _start(one: Classifier) -> int:
    found = one.network.config.decoder_start_token_id
    return int(one.tokenizer.pad_token_id if found is None else found)


def _inner(one: Classifier) -> Any:
    network = one.network
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def _calibration_error(found: Predictions) -> float:
    confidence = found.probabilities.max(1)
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, found.correct - confidence, BINS)
    return float(np.abs(gaps).sum() / len(confidence))
