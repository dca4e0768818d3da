"""Encoders (bidirectional models such as BERT): how to recognise them, and their context length."""

from __future__ import annotations

from typing import Any, Final

from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

# Their position ids start after the padding token's id, so the first entries of the position table are unused.
OFFSET_POSITION_MODELS: Final = (
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod", "mpnet", "longformer",
    "data2vec-text",
)  # fmt: skip


def is_encoder(config: Any) -> bool:
    """Whether the configuration is of an encoder without decoder: a masked language model such as BERT."""
    has_decoder = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not has_decoder


def context_length(config: Any) -> int | None:
    """The maximum number of tokens per text, or None where the configuration sets no limit."""
    text_config = config.get_text_config()
    max_positions = getattr(text_config, "max_position_embeddings", None)
    if max_positions and text_config.model_type in OFFSET_POSITION_MODELS:
        return int(max_positions) - text_config.pad_token_id - 1
    return max_positions
