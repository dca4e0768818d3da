"""What tells one local model's answers from another's: a hash of its weights, configuration, tokenizer and template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PreTrainedModel

from zhenlong.models.resolve import resolve_model_path

# the files of a model folder that change its answers
FINGERPRINT_SUFFIXES: Final = (".safetensors", ".json", ".jinja", ".model", ".txt")


def folder_hash(model: str, config: Any, file_hash: Callable[[Path], str]) -> str:
    """The hash of a model's files; of a model of the hub, the name and the commit that was loaded."""
    folder = Path(resolve_model_path(model))
    if not folder.is_dir():
        return hash_values(model, getattr(config, "_commit_hash", None))
    files = sorted(one for one in folder.iterdir() if one.suffix in FINGERPRINT_SUFFIXES and one.is_file())
    return hash_values(*((one.name, file_hash(one)) for one in files))


def weights_hash(network: PreTrainedModel, tokenizer: Any) -> str:
    """The hash of a loaded model: its configuration, its tokenizer and every weight."""
    digest = hashlib.sha256(network.config.to_json_string().encode())
    digest.update(json.dumps([sorted(tokenizer.get_vocab().items()), str(tokenizer.chat_template)]).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_values(*values: Any) -> str:
    """The hash of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
