"""What is the network? Loading and saving in Hugging Face format, adapters, heads, and the built-in pocket model."""

from zhenlong.models.fresh import Shape, fresh_model, train_tokenizer
from zhenlong.models.load import (
    Lora,
    compile_layers,
    device_named,
    frozen_copy,
    load_model,
    load_tokenizer,
    save_model,
    without_adapter,
)
from zhenlong.models.names import POCKET, resolve
from zhenlong.models.value_head import ValueHead

__all__ = [
    "POCKET",
    "Lora",
    "Shape",
    "ValueHead",
    "compile_layers",
    "device_named",
    "fresh_model",
    "frozen_copy",
    "load_model",
    "load_tokenizer",
    "resolve",
    "save_model",
    "train_tokenizer",
    "without_adapter",
]
