"""New models: a Llama of a given shape with random weights, and a byte-level tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from zhenlong.errors import UserError
from zhenlong.kernels import malloc
from zhenlong.kernels import patching as kernel_patching

END_OF_TEXT: Final = "<|endoftext|>"
SPECIAL_TOKENS: Final = (END_OF_TEXT, "<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class ModelShape:
    """The shape of a new model."""

    hidden_size: int = 128
    layers: int = 6
    heads: int = 4
    kv_heads: int = 4
    intermediate_size: int = 384
    context: int = 512

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise UserError(f"{name}: expected a whole number of 1 or more, got {value}")
        if self.hidden_size % self.heads or self.heads % self.kv_heads:
            raise UserError(
                f"shape: heads ({self.heads}) must divide hidden_size ({self.hidden_size}), "
                f"and kv_heads ({self.kv_heads}) must divide heads"
            )


def init_model(shape: ModelShape, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PreTrainedModel:
    """A Llama with tied embeddings and random weights from `seed`, in eval mode."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        initializer_range=shape.hidden_size**-0.5 / 2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    rng_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_rng_state(rng_state)
    kernel_patching.patch_model(model)
    malloc.keep_freed_memory()
    return model


def train_tokenizer(texts: Iterable[str], vocab_size: int, chat_template: str | None = None) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of `vocab_size` tokens; every UTF-8 text round-trips, whatever the training texts.

    Each digit is a token of its own, and ChatML's markers are special tokens. Raises `UserError` for a vocabulary
    smaller than all bytes and markers; texts with few distinct words give fewer tokens.
    """
    min_vocab_size = 256 + len(SPECIAL_TOKENS)
    if vocab_size < min_vocab_size:
        raise UserError(f"vocabulary: expected at least {min_vocab_size}, all bytes and the markers, got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )
