"""Resolving a model's name: the built-in `pocket`, a model folder, a run folder, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from zhenlong.api.folder_format import require_run_format
from zhenlong.errors import UserError

POCKET: Final = Path(__file__).parent / "pocket"


def resolve_model_path(name: str) -> str:
    """A path or hub id that transformers can load.

    Raises `UserError` for a folder that is not a model: missing, without configuration, without
    safetensors, or the run of another version.
    """
    if name == "pocket":
        return str(POCKET)
    path = Path(name).expanduser()
    if path.is_file():
        raise UserError(f"model {name}: expected a folder in Hugging Face format or a hub id, got a single file")
    if not path.is_dir():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "runs/")):
            return name
        raise UserError(f"model {name}: no such folder; expected pocket, a model or run folder, or a hub id owner/name")
    if not (path / "config.json").is_file():  # else a model's own folder, whatever config.yaml it has
        require_run_format(path)
    folder = path / "model" if (path / "model" / "config.json").is_file() else path
    _require_model(folder, name, is_run=(path / "config.yaml").is_file())
    return str(folder)


def _require_model(folder: Path, name: str, is_run: bool) -> None:
    if not (folder / "config.json").is_file():
        if is_run:
            raise UserError(f"model {name}: this run has no model yet; finish it first with --resume true")
        raise UserError(f"model {name}: no config.json in {folder}; expected a model folder in Hugging Face format")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for p in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"model {name}: {pickles[0]} is a pickle, which can run code when it is loaded, so it is refused; "
            "expected *.safetensors: save the model again with save_pretrained from a place you trust"
        )
    raise UserError(f"model {name}: no *.safetensors in {folder}; expected the weights beside config.json")
