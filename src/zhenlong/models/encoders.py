"""Encoders, which read a text in both directions: what sets them apart from the decoders that all else is made for."""

from __future__ import annotations

from typing import Any, Final

from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

# Their positions begin after the padding token's id, so that so many of the table are never used.
OFFSET_POSITION_MODELS: Final = (
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod", "mpnet", "longformer",
    "data2vec-text",
)  # fmt: skip


def is_encoder(config: Any) -> bool:
    """Whether a configuration describes an encoder without decoder: what can predict masked words, as BERT is."""
    has_decoder = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not has_decoder


def context_length(config: Any) -> int | None:
    """The most tokens of one text that the model has positions for; None where its configuration sets no limit."""
    text_config = config.get_text_config()
    max_positions = getattr(text_config, "max_position_embeddings", None)
    if max_positions and text_config.model_type in OFFSET_POSITION_MODELS:
        return int(max_positions) - text_config.pad_token_id - 1
    return max_positions
