"""Load the weights of a BERT, Llama or T5 from transformers into the layers of `transformer.py`, by renaming them.

model, tokenizer = load_model("pocket")
own = decoder_from_llama(model)               # own(ids) equals model(ids).logits
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch import nn
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.studies.transformer import Decoder, Encoder, EncoderDecoder, TransformerConfig

NameMap = Mapping[str, str]  # regular expression of the library's name -> this file's

_BERT: Final = {
    r"embeddings\.word_embeddings": "token_embedding",
    r"embeddings\.position_embeddings": "position_embedding",
    r"embeddings\.token_type_embeddings": "segment_embedding",
    r"embeddings\.LayerNorm": "norm",
    r"encoder\.layer": "layers",
    r"attention\.self\.(query|key|value)": r"attention.\1",
    r"attention\.output\.dense": "attention.out",
    r"attention\.output\.LayerNorm": "attention_norm",
    r"intermediate\.dense": "feed_forward.up",
    r"output\.dense": "feed_forward.down",
    r"output\.LayerNorm": "feed_forward_norm",
}
_LLAMA: Final = {
    r"^model\.embed_tokens": "stack.token_embedding",
    r"^model\.norm": "stack.norm",
    r"^model\.layers": "stack.layers",
    r"^lm_head": "head",
    r"self_attn\.q_proj": "attention.query",
    r"self_attn\.k_proj": "attention.key",
    r"self_attn\.v_proj": "attention.value",
    r"self_attn\.o_proj": "attention.out",
    r"input_layernorm": "attention_norm",
    r"post_attention_layernorm": "feed_forward_norm",
    r"mlp\.(gate|up|down)_proj": r"feed_forward.\1",
}
_T5: Final = {
    r"^lm_head": "head",
    r"embed_tokens": "token_embedding",
    r"final_layer_norm": "norm",
    r"block\.(\d+)\.layer": r"layers.\1",
    r"(\d+)\.0\.SelfAttention\.": r"\1.attention.",
    r"(\d+)\.0\.layer_norm": r"\1.attention_norm",
    r"(\d+)\.1\.EncDecAttention\.": r"\1.cross_attention.",
    r"(decoder\.layers\.\d+)\.1\.layer_norm": r"\1.cross_attention_norm",
    r"(\d+)\.[12]\.layer_norm": r"\1.feed_forward_norm",
    r"(\d+)\.[12]\.DenseReluDense\.wi": r"\1.feed_forward.up",
    r"(\d+)\.[12]\.DenseReluDense\.wo": r"\1.feed_forward.down",
    r"\.q\.": ".query.",
    r"\.k\.": ".key.",
    r"\.v\.": ".value.",
    r"\.o\.": ".out.",
    r"relative_attention_bias": "bias_table",
}


def encoder_from_bert(model: PreTrainedModel) -> Encoder:
    """Convert a `BertModel`: `own(ids)` equals its `last_hidden_state`."""
    hf_config = _hf_config(model, "bert")
    config = TransformerConfig(
        vocab_size=hf_config.vocab_size,
        hidden_size=hf_config.hidden_size,
        num_layers=hf_config.num_hidden_layers,
        num_heads=hf_config.num_attention_heads,
        ffn_dim=hf_config.intermediate_size,
        max_positions=hf_config.max_position_embeddings,
        pre_norm=False,
        layer_norm=True,
        bias=True,
        position_encoding="learned",
        num_segments=hf_config.type_vocab_size,
        activation="gelu",
        eps=hf_config.layer_norm_eps,
    )
    return _with_weights(Encoder(config), getattr(model, "bert", model), _BERT, skip_pattern=r"^pooler|position_ids")


def decoder_from_llama(model: PreTrainedModel) -> Decoder:
    """Convert a `LlamaForCausalLM`: `own(ids)` equals its logits."""
    hf_config = _hf_config(model, "llama")
    rope = getattr(hf_config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise UserError(f"model: expected plain rotary positions, got {rope['rope_type']}")
    config = TransformerConfig(
        vocab_size=hf_config.vocab_size,
        hidden_size=hf_config.hidden_size,
        num_layers=hf_config.num_hidden_layers,
        num_heads=hf_config.num_attention_heads,
        num_kv_heads=hf_config.num_key_value_heads,
        ffn_dim=hf_config.intermediate_size,
        causal=True,
        eps=hf_config.rms_norm_eps,
        rope_theta=rope.get("rope_theta", 10000.0),
    )
    return _with_weights(Decoder(config), model, _LLAMA, skip_pattern="inv_freq")


def encoder_decoder_from_t5(model: PreTrainedModel) -> EncoderDecoder:
    """Convert a `T5ForConditionalGeneration` with ReLU: `own(source_ids, target_ids)` equals its logits."""
    hf_config = _hf_config(model, "t5")
    if hf_config.feed_forward_proj != "relu":
        raise UserError(f"model: expected T5's relu, got {hf_config.feed_forward_proj}")
    encoder = TransformerConfig(
        vocab_size=hf_config.vocab_size,
        hidden_size=hf_config.d_model,
        num_layers=hf_config.num_layers,
        num_heads=hf_config.num_heads,
        ffn_dim=hf_config.d_ff,
        position_encoding="relative",
        activation="relu",
        scale_scores=False,
        eps=hf_config.layer_norm_epsilon,
        num_buckets=hf_config.relative_attention_num_buckets,
        max_distance=hf_config.relative_attention_max_distance,
    )
    if hf_config.d_kv * hf_config.num_heads != hf_config.d_model:
        raise UserError(f"model: expected heads of {hf_config.d_model // hf_config.num_heads}, got {hf_config.d_kv}")
    decoder = replace(encoder, num_layers=hf_config.num_decoder_layers, causal=True, cross_attention=True)
    scaled_output = getattr(hf_config, "scale_decoder_outputs", hf_config.tie_word_embeddings)
    own = EncoderDecoder(encoder, decoder, output_scale=hf_config.d_model**-0.5 if scaled_output else 1.0)
    return _with_weights(own, model, _T5, skip_pattern=r"^shared")


def _hf_config(model: PreTrainedModel, model_type: str) -> Any:
    if model.config.model_type != model_type:
        raise UserError(f"model: expected a {model_type}, got {model.config.model_type}")
    return model.config


def _with_weights(own: Any, model: nn.Module, name_map: NameMap, skip_pattern: str) -> Any:
    """`own` with the model's weights loaded; raises if a weight of either has no counterpart."""
    state = {}
    for name, weight in model.state_dict().items():
        if re.search(skip_pattern, name):
            continue
        for pattern, replacement in name_map.items():
            name = re.sub(pattern, replacement, name)
        state[name] = weight.detach().clone().to(torch.float32)
    own.load_state_dict(state, strict=True)
    return own.eval()
