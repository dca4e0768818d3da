"""What is evaluated: a model by name, or one that is loaded already, with its tokenizer."""

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
    """The model and its tokenizer, loaded if it is given by name, without touching the global random states.

    Raises `UserError` when nothing loadable is there, and when a reward model is asked for and the name is a language
    model's: its scores would be random numbers.
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
    """Raise `UserError` unless both tokenizers number the same tokens alike: else log-probabilities do not compare."""
    if tokenizer.get_vocab() != other.get_vocab():
        raise UserError(
            f"{name}: its tokenizer has other tokens than the model's; expected a reference with the same vocabulary"
        )
