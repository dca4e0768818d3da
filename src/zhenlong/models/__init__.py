"""What is the network? Loading and saving in Hugging Face format, adapters, heads, and the built-in pocket model."""

from zhenlong.models.load import Lora, device_named, frozen_copy, load_model, save_model, without_adapter
from zhenlong.models.names import POCKET, resolve
from zhenlong.models.value_head import ValueHead

__all__ = [
    "POCKET",
    "Lora",
    "ValueHead",
    "device_named",
    "frozen_copy",
    "load_model",
    "resolve",
    "save_model",
    "without_adapter",
]
