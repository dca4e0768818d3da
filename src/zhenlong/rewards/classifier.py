"""A sequence classifier as a reward: the log-odds or probability of a label, such as toxicity or sentiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.models import load_model
from zhenlong.rewards.task_response import RewardFn, TaskResponse

BATCH_SIZE: Final = 32  # responses in one forward pass


def classifier_reward(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, label: str, *, probability: bool = False
) -> RewardFn:
    """The log-odds of `label` for the response's text, or its probability.

    `label` is a name in the model's `id2label`, or its index. Labels are mutually exclusive (softmax) unless there is
    only one, or the model's `problem_type` is multi-label (sigmoid). The input is the text alone, without prompt or
    chat template, truncated at the model's length. Raises UserError for an unknown label.
    """
    index = _label_index(model, label)
    mutually_exclusive = model.config.num_labels > 1 and model.config.problem_type != "multi_label_classification"

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        scores = [0.0] * len(responses)
        ids = _tokenize(model, tokenizer, [response.answer for response in responses])
        training = model.training
        model.eval()
        try:
            for indices in _equal_length_batches(ids):
                with torch.no_grad():
                    rows = torch.tensor([ids[place] for place in indices], device=model.device)
                    odds = log_odds(model(input_ids=rows).logits.float(), index, mutually_exclusive)
                for place, value in zip(indices, (odds.sigmoid() if probability else odds).tolist(), strict=True):
                    scores[place] = value
        finally:
            model.train(training)
        return scores

    return reward


def load_classifier_reward(
    name: str, *, probability: bool = False, device: str = "auto", dtype: str = "float32"
) -> RewardFn:
    """`classifier_reward` of `PATH:LABEL`, where PATH is the folder, run folder or hub id of a sequence classifier."""
    path, _, label = name.rpartition(":")
    model, tokenizer = load_model(path, kind="classifier", device=device, dtype=dtype)
    return classifier_reward(model, tokenizer, label, probability=probability)


def log_odds(logits: torch.Tensor, label: int, mutually_exclusive: bool) -> torch.Tensor:
    """log p / (1 - p) of one label, [texts], from logits [texts, labels].

    For mutually exclusive labels z - logsumexp of the others' z, which is invariant to a shift of all logits; else z.
    """
    if not mutually_exclusive:
        return logits[:, label]
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], 1)
    return logits[:, label] - others.logsumexp(1)


def _label_index(model: PreTrainedModel, label: str) -> int:
    names = {str(name): int(index) for index, name in model.config.id2label.items()}
    if label in names:
        return names[label]
    if label.isdecimal() and int(label) < model.config.num_labels:
        return int(label)
    raise UserError(f"classifier: no label {label!r}; expected one of {', '.join(names)}")


def _tokenize(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    max_length = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 1 << 20)
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
    empty_ids = [next(end for end in ends if end is not None)]
    return [tokenizer(text, truncation=True, max_length=max_length, verbose=False)["input_ids"] or empty_ids
            for text in texts]  # fmt: skip


def _equal_length_batches(ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of the texts in batches of equal length: without padding a score is independent of the batch."""
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(ids):
        by_length.setdefault(len(row), []).append(place)
    return [
        places[start : start + BATCH_SIZE]
        for places in by_length.values()
        for start in range(0, len(places), BATCH_SIZE)
    ]
