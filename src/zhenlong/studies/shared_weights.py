"""The weights of a BERT, a Llama or a T5 of transformers in the layers of `transformer.py`: other names, same numbers.

model, tokenizer = load_model("pocket")
own = decoder_like(model)               # own(ids) equals model(ids).logits
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
from zhenlong.studies.transformer import Decoder, Design, Encoder, EncoderDecoder

Names = Mapping[str, str]  # regular expression of the library's name -> this file's

_BERT: Final = {
    r"embeddings\.word_embeddings": "tokens",
    r"embeddings\.position_embeddings": "places",
    r"embeddings\.token_type_embeddings": "segments",
    r"embeddings\.LayerNorm": "norm",
    r"encoder\.layer": "layers",
    r"attention\.self\.(query|key|value)": r"attention.\1",
    r"attention\.output\.dense": "attention.out",
    r"attention\.output\.LayerNorm": "attention_norm",
    r"intermediate\.dense": "feed.up",
    r"output\.dense": "feed.down",
    r"output\.LayerNorm": "feed_norm",
}
_LLAMA: Final = {
    r"^model\.embed_tokens": "stack.tokens",
    r"^model\.norm": "stack.norm",
    r"^model\.layers": "stack.layers",
    r"^lm_head": "head",
    r"self_attn\.q_proj": "attention.query",
    r"self_attn\.k_proj": "attention.key",
    r"self_attn\.v_proj": "attention.value",
    r"self_attn\.o_proj": "attention.out",
    r"input_layernorm": "attention_norm",
    r"post_attention_layernorm": "feed_norm",
    r"mlp\.(gate|up|down)_proj": r"feed.\1",
}
_T5: Final = {
    r"^lm_head": "head",
    r"embed_tokens": "tokens",
    r"final_layer_norm": "norm",
    r"block\.(\d+)\.layer": r"layers.\1",
    r"(\d+)\.0\.SelfAttention\.": r"\1.attention.",
    r"(\d+)\.0\.layer_norm": r"\1.attention_norm",
    r"(\d+)\.1\.EncDecAttention\.": r"\1.crossing.",
    r"(decoder\.layers\.\d+)\.1\.layer_norm": r"\1.crossing_norm",
    r"(\d+)\.[12]\.layer_norm": r"\1.feed_norm",
    r"(\d+)\.[12]\.DenseReluDense\.wi": r"\1.feed.up",
    r"(\d+)\.[12]\.DenseReluDense\.wo": r"\1.feed.down",
    r"\.q\.": ".query.",
    r"\.k\.": ".key.",
    r"\.v\.": ".value.",
    r"\.o\.": ".out.",
    r"relative_attention_bias": "near",
}


def encoder_like(model: PreTrainedModel) -> Encoder:
    """The encoder of a `BertModel`: `own(ids)` equals its `last_hidden_state`."""
    config = _config(model, "bert")
    design = Design(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        inner=config.intermediate_size,
        context=config.max_position_embeddings,
        norm_first=False,
        centred=True,
        biases=True,
        positions="learned",
        segments=config.type_vocab_size,
        activation="gelu",
        tiny=config.layer_norm_eps,
    )
    return _filled(Encoder(design), getattr(model, "bert", model), _BERT, left_out=r"^pooler|position_ids")


def decoder_like(model: PreTrainedModel) -> Decoder:
    """A `LlamaForCausalLM`: `own(ids)` equals its logits."""
    config = _config(model, "llama")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise UserError(f"model: expected plain rotary positions, got {rope['rope_type']}")
    design = Design(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        inner=config.intermediate_size,
        causal=True,
        tiny=config.rms_norm_eps,
        theta=rope.get("rope_theta", 10000.0),
    )
    return _filled(Decoder(design), model, _LLAMA, left_out="inv_freq")


def encoder_decoder_like(model: PreTrainedModel) -> EncoderDecoder:
    """A `T5ForConditionalGeneration` with relu: `own(source, said)` equals its logits."""
    config = _config(model, "t5")
    if config.feed_forward_proj != "relu":
        raise UserError(f"model: expected T5's relu, got {config.feed_forward_proj}")
    encoder = Design(
        vocabulary=config.vocab_size,
        width=config.d_model,
        layers=config.num_layers,
        heads=config.num_heads,
        inner=config.d_ff,
        positions="relative",
        activation="relu",
        scaled=False,
        tiny=config.layer_norm_epsilon,
        buckets=config.relative_attention_num_buckets,
        farthest=config.relative_attention_max_distance,
    )
    if config.d_kv * config.num_heads != config.d_model:
        raise UserError(f"model: expected heads of {config.d_model // config.num_heads}, got {config.d_kv}")
    decoder = replace(encoder, layers=config.num_decoder_layers, causal=True, crossed=True)
    shrunk = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    own = EncoderDecoder(encoder, decoder, shrink=config.d_model**-0.5 if shrunk else 1.0)
    return _filled(own, model, _T5, left_out=r"^shared")


def _config(model: PreTrainedModel, kind: str) -> Any:
    if model.config.model_type != kind:
        raise UserError(f"model: expected a {kind}, got {model.config.model_type}")
    return model.config


def _filled(own: Any, model: nn.Module, names: Names, left_out: str) -> Any:
    """`own` with the model's weights; every weight of either has to have its counterpart."""
    state = {}
    for name, weight in model.state_dict().items():
        if re.search(left_out, name):
            continue
        for pattern, plain in names.items():
            name = re.sub(pattern, plain, name)
        state[name] = weight.detach().clone().to(torch.float32)
    own.load_state_dict(state, strict=True)
    return own.eval()
