"""What is evaluated: a model by name, or one that is loaded already, with its tokenizer."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.loop.randomness import evaluating
from zhenlong.models import load_model
from zhenlong.models.load import Kind

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
Subject = str | Path | Loaded


def opened(subject: Subject, kind: Kind = "causal") -> Loaded:
    """The model and its tokenizer, loaded if it is given by name, without touching the global random states.

    Raises `UserError` when nothing loadable is there, and when a reward model is asked for and the name is a language
    model's: its scores would be random numbers.
    """
    if isinstance(subject, tuple):
        return subject
    with evaluating():
        network, tokenizer = load_model(str(subject), kind=kind)
    architectures = network.config.architectures or []
    if kind == "reward" and not any("SequenceClassification" in name for name in architectures):
        raise UserError(
            f"model {subject}: expected a reward model, got a language model ({', '.join(architectures)}); "
            f"train one with zhenlong reward_model --model {subject}"
        )
    return network, tokenizer


def require_same_tokens(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, name: str) -> None:
    """Raise `UserError` unless both tokenizers number the same tokens alike: else log-probabilities do not compare."""
    if tokenizer.get_vocab() != other.get_vocab():
        raise UserError(
            f"{name}: its tokenizer has other tokens than the model's; expected a reference with the same vocabulary"
        )
