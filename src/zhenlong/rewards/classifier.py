"""A classifier's opinion of an answer's text, such as a model of toxicity or sentiment, of any architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.models import load_model
from zhenlong.rewards.answer import Answer, Reward

ROWS: Final = 32  # answers in one forward pass


def classifier_reward(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, label: str, *, probability: bool = False
) -> Reward:
    """The log-odds of `label` for the answer's text, or its probability.

    `label` is a name of the model's `id2label`, or its number. Labels exclude each other (softmax) unless there is one,
    or the model's `problem_type` says that several may hold (sigmoid). The text stands alone, without prompt or chat
    template, and is cut at the model's length, as classifiers are used. Raises UserError for a label that is not there.
    """
    index = _index(model, label)
    exclusive = model.config.num_labels > 1 and model.config.problem_type != "multi_label_classification"

    def reward(answers: Sequence[Answer]) -> list[float]:
        found = [0.0] * len(answers)
        ids = _ids(model, tokenizer, [answer.text for answer in answers])
        training = model.training
        model.eval()
        try:
            for places in _of_equal_length(ids):
                with torch.no_grad():
                    rows = torch.tensor([ids[place] for place in places], device=model.device)
                    odds = log_odds(model(input_ids=rows).logits.float(), index, exclusive)
                for place, value in zip(places, (odds.sigmoid() if probability else odds).tolist(), strict=True):
                    found[place] = value
        finally:
            model.train(training)
        return found

    return reward


def load_classifier(name: str, *, probability: bool = False, device: str = "auto", dtype: str = "float32") -> Reward:
    """`classifier_reward` of `PATH:LABEL`, where PATH is the folder, run folder or hub id of a sequence classifier."""
    path, _, label = name.rpartition(":")
    model, tokenizer = load_model(path, kind="classifier", device=device, dtype=dtype)
    return classifier_reward(model, tokenizer, label, probability=probability)


def log_odds(logits: torch.Tensor, label: int, exclusive: bool) -> torch.Tensor:
    """log p / (1 - p) of one label, [texts], from logits [texts, labels].

    z - logsumexp of the others' z where labels exclude each other, which no shift of all logits changes; else z.
    """
    if not exclusive:
        return logits[:, label]
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], 1)
    return logits[:, label] - others.logsumexp(1)


def _index(model: PreTrainedModel, label: str) -> int:
    names = {str(name): int(index) for index, name in model.config.id2label.items()}
    if label in names:
        return names[label]
    if label.isdecimal() and int(label) < model.config.num_labels:
        return int(label)
    raise UserError(f"classifier: it has no label {label!r}; expected one of {', '.join(names)}")


def _ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 1 << 20)
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
    nothing = [next(end for end in ends if end is not None)]
    return [tokenizer(text, truncation=True, max_length=longest, verbose=False)["input_ids"] or nothing
            for text in texts]  # fmt: skip


def _of_equal_length(ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """The places of the rows in batches of one length: without padding a score depends on nothing else."""
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(ids):
        by_length.setdefault(len(row), []).append(place)
    return [places[start : start + ROWS] for places in by_length.values() for start in range(0, len(places), ROWS)]
