"""Models, configurations and tokenizers that others made: no code of theirs is run, and every fault is one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from transformers import AutoConfig

from zhenlong.errors import UserError
from zhenlong.guarded_call import ANYTHING, describe_error, time_limit
from zhenlong.models.resolve import resolve_model_path
from zhenlong.models.silence import silence_transformers

_LAYER_COUNTS: Final = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers"
)  # fmt: skip
MAX_LAYERS: Final = 10_000
"""Layers of a configuration whose weights are not on this machine yet; none published has a tenth of it."""
CONFIG_SECONDS: Final = 20.0  # of the processor, for a configuration or a tokenizer
_MAX_HEADER: Final = 100_000_000  # bytes, safetensors' own limit


def load_config(name: str) -> Any:
    """The configuration of `pocket`, a folder, a run folder or a hub id. Raises `UserError` for what is none."""
    source = resolve_model_path(name)
    config = from_pretrained(AutoConfig, source, name)
    _require_possible_layers(config, source, name)
    return config


def from_pretrained(loader: Any, source: str, name: str, **settings: Any) -> Any:
    """Any `from_pretrained`, silenced, with all its errors turned into a one-line `UserError`.

    Code that a folder brings (`auto_map`) is never run: an architecture that transformers does not know is refused.
    """
    _require_mapping(source, name)
    try:
        with silence_transformers(), nullcontext() if settings else time_limit(CONFIG_SECONDS):
            return loader.from_pretrained(source, trust_remote_code=False, **settings)
    except ANYTHING as error:
        if _brings_code(source) and "trust_remote_code" in str(error):
            raise UserError(
                f"model {name}: its config.json names code of its own (auto_map), which is not run; expected an "
                "architecture that transformers has"
            ) from None
        raise UserError(f"model {name}: cannot be loaded ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    """The error's first line; its class where the message alone says nothing."""
    text = str(error).strip()
    if isinstance(error, OSError | ValueError) and text:
        return text.splitlines()[0]
    return describe_error(error)


def _require_mapping(source: str, name: str) -> None:
    """Refuse a config.json that is no mapping before transformers reads it."""
    path = Path(source) / "config.json"
    if not path.is_file():
        return
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"model {name}: {path} is not JSON ({_reason(error)})") from None
    if not isinstance(loaded, Mapping):
        raise UserError(f"model {name}: {path} holds a {type(loaded).__name__}; expected a mapping of settings")


def _brings_code(source: str) -> bool:
    return any(
        '"auto_map"' in path.read_text(encoding="utf-8", errors="replace")
        for path in (Path(source) / "config.json", Path(source) / "tokenizer_config.json")
        if path.is_file()
    )


def _require_possible_layers(config: Any, source: str, name: str) -> None:
    """Refuse a configuration with more layers than its files have weights: it would be built for hours."""
    for part in (config, *_parts(config)):
        for key in _LAYER_COUNTS:
            layers = getattr(part, key, None)
            if not isinstance(layers, int) or isinstance(layers, bool):
                continue
            most = _number_of_weights(source) or MAX_LAYERS
            if not 0 <= layers <= most:
                raise UserError(f"model {name}: its config.json has {key} {layers}; expected at most {most}")


def _parts(config: Any) -> Iterator[Any]:
    for name in ("text_config", "encoder", "decoder"):
        if (part := getattr(config, name, None)) is not None:
            yield part


def _number_of_weights(source: str) -> int:
    """The number of tensors in a folder's safetensors files, from their headers; 0 where they cannot be read."""
    count = 0
    for path in Path(source).glob("*.safetensors"):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                count += len(json.loads(file.read(length))) if length < _MAX_HEADER else 0
        except (OSError, ValueError, struct.error):
            return 0
    return count
