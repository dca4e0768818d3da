"""A model argument: a name, or a loaded model with its tokenizer."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.models import load_model
from zhenlong.models.load import ModelKind
from zhenlong.randomness import eval_mode

LoadedModel = tuple[PreTrainedModel, PreTrainedTokenizerBase]
ModelLike = str | Path | LoadedModel


def load_if_named(model: ModelLike, kind: ModelKind = "causal") -> LoadedModel:
    """Load the model and its tokenizer if given by name, without changing the global random states.

    Raises `UserError` when the model cannot be loaded, or when `kind` is `reward` and the name is that of a language
    model, whose scores would come from a random head.
    """
    if isinstance(model, tuple):
        return model
    with eval_mode():
        network, tokenizer = load_model(str(model), kind=kind)
    architectures = network.config.architectures or []
    if kind == "reward" and not any("SequenceClassification" in name for name in architectures):
        raise UserError(
            f"model {model}: expected a reward model, got a language model ({', '.join(architectures)}); "
            f"train one with zhenlong reward_model --model {model}"
        )
    return network, tokenizer


def require_same_vocabulary(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, name: str) -> None:
    """Raise `UserError` unless both tokenizers have the same vocabulary; else log-probabilities are not comparable."""
    if tokenizer.get_vocab() != other.get_vocab():
        raise UserError(
            f"{name}: its tokenizer differs from the model's; expected a reference with the same vocabulary"
        )
