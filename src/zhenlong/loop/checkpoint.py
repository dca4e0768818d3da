"""Checkpoints: tensors of any nested state in a safetensors file, the rest in a JSON file; nothing is pickled.

    checkpoints/step-000123/state.safetensors    every tensor, named by its path in the state
    checkpoints/step-000123/state.json           everything else, with references to the tensors

A state consists of dicts, lists, tuples, strings, numbers, booleans, None, torch tensors and numpy arrays. It is
restored with equal values, types and dtypes.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from zhenlong.errors import UserError
from zhenlong.loop.atomic import atomic_folder

STEP_FOLDER = re.compile(r"step-(\d+)")


def save_checkpoint(folder: Path, step: int, state: Any, keep_last: int = 0) -> Path:
    """Write `state` to `folder/step-…` atomically, then delete all but the newest `keep_last` checkpoints.

    `keep_last=0` deletes none. Raises `UserError` on a write error, `TypeError` for an unsupported type in the state.
    """
    path = folder / f"step-{step:06d}"
    tensors: dict[str, torch.Tensor] = {}
    structure = _to_json(state, "", tensors)
    with atomic_folder(path) as temporary:
        save_file(_for_safetensors(tensors), temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps(structure), encoding="utf-8")
    for _, old in list_checkpoints(folder)[:-keep_last] if keep_last else []:
        shutil.rmtree(old)
    return path


def load_checkpoint(path: Path) -> Any:
    """The state that `save_checkpoint` wrote, tensors on the CPU. Raises `UserError` when the checkpoint is damaged."""
    try:
        tensors = load_file(path / "state.safetensors")
        return _from_json(json.loads((path / "state.json").read_text(encoding="utf-8")), tensors)
    except Exception as error:  # safetensors raises its own error type, JSON and the file system theirs
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path}: the checkpoint is damaged ({reason}); delete this folder to resume earlier"
        ) from error


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The complete checkpoints of a folder as (step, path), oldest first."""
    if not folder.is_dir():
        return []
    found = ((STEP_FOLDER.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match.group(1)), path) for match, path in found if match)


def _to_json(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The value as JSON; each tensor goes to `tensors` and leaves a reference. Lists and dicts are tagged by type."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach()
        return {"tensor": path}
    if isinstance(value, np.ndarray):
        tensors[path] = torch.from_numpy(np.ascontiguousarray(value))
        return {"array": path, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return _to_json(value.item(), path, tensors)
    if isinstance(value, dict):
        return {
            "dict": [[_check_key(key, path), _to_json(item, f"{path}/{key}", tensors)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        if all(type(item) in (int, float, str, bool) for item in value):
            return {type(value).__name__: list(value)}  # flat lists are stored as they are, without a tag per item
        items = [_to_json(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return {"items": items, "of": type(value).__name__}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"state{path}: a checkpoint cannot hold a {type(value).__name__}")


def _from_json(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "array" in value:
        return tensors[value["array"]].numpy().reshape(value["shape"])
    if "dict" in value:
        return {key: _from_json(item, tensors) for key, item in value["dict"]}
    if "items" in value:
        items = [_from_json(item, tensors) for item in value["items"]]
        return tuple(items) if value["of"] == "tuple" else items
    return tuple(value["tuple"]) if "tuple" in value else value["list"]


def _check_key(key: Any, path: str) -> Any:
    if not isinstance(key, (str, int)):
        raise TypeError(f"state{path}: a checkpoint cannot hold a key of type {type(key).__name__}")
    return key


def _for_safetensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as safetensors requires them: on the CPU, contiguous, none sharing memory."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.to("cpu").contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        result[name] = tensor
    return result
