"""Models: loading and saving in Hugging Face format, LoRA adapters, heads, and the built-in pocket model."""

from zhenlong.models.load import (
    ForwardSettings,
    Lora,
    compile_layers,
    frozen_copy,
    load_model,
    load_tokenizer,
    resolve_device,
    save_model,
    without_adapter,
)
from zhenlong.models.new_model import ModelShape, init_model, train_tokenizer
from zhenlong.models.resolve import POCKET, resolve_model_path
from zhenlong.models.value_head import ValueHead

__all__ = [
    "POCKET",
    "ForwardSettings",
    "Lora",
    "ModelShape",
    "ValueHead",
    "compile_layers",
    "frozen_copy",
    "init_model",
    "load_model",
    "load_tokenizer",
    "resolve_device",
    "resolve_model_path",
    "save_model",
    "train_tokenizer",
    "without_adapter",
]
