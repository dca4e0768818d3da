"""config.yaml: the resolved arguments of a run, in a form that the stage's own `--config` reads."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import yaml

from zhenlong.api.folder_format import FORMAT_NOTE, require_run_format
from zhenlong.errors import UserError
from zhenlong.loop.atomic import write_text
from zhenlong.loop.options import RESUMABLE_CHANGES
from zhenlong.options import Options

PACKAGES: Final = ("zhenlong", "torch", "transformers", "tokenizers", "numpy")
RUN_FILES: Final = ("config.yaml", "metrics.jsonl", "samples.jsonl", "checkpoints", "model", "finished.json")
"""Files whose presence shows that a folder holds a run."""
RECIPE_PROGRESS_FILE: Final = "progress.json"
"""The file whose presence shows that a folder holds the runs of a recipe, one folder each."""


def resolve_config(config: Mapping[str, Any], *options: Options) -> dict[str, Any]:
    """The stage's arguments and all shared options, as one flat dictionary of YAML types.

    `config` may be the stage's `dict(locals())`, taken on its first line. Its `options` mapping is dropped, because the
    classes of options contain the same values.
    """
    resolved = {name: _to_yaml(value) for name, value in config.items() if name != "options"}
    for one in options:
        resolved |= {name: _to_yaml(value) for name, value in one.as_dict().items()}
    return resolved | {"resume": False}


def write_config(path: Path, stage: str, config: Mapping[str, Any]) -> None:
    """Write config.yaml, with the stage, the folder format and the package versions as comments at the top."""
    version_list = ", ".join(f"{package} {version}" for package, version in package_versions().items())
    command = f"zhenlong {stage} --config <this file> --output <another folder>"
    header = f"# zhenlong {stage}, {FORMAT_NOTE}; again: {command}\n# {version_list}\n"
    write_text(path, header + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def check_run_folder(output: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Raise `UserError` unless the folder is free, or holds this run and `resume` is on.

    It is this run if the saved config is equal apart from `RESUMABLE_CHANGES` and the name of the folder.
    """
    if (output / RECIPE_PROGRESS_FILE).exists():
        raise UserError(f"{output}: this folder holds the runs of a recipe; choose another output")
    if not any((output / part).exists() for part in RUN_FILES):
        if output.exists() and not output.is_dir():
            raise UserError(f"{output}: expected a folder for the run, but this is a file; choose another output")
        return
    if not resume:
        raise UserError(f"{output}: this folder holds a run; continue it with --resume, or choose another output")
    if not (output / "config.yaml").exists():
        raise UserError(f"{output}: the folder holds files of a run but no config.yaml; choose another output")
    require_run_format(output)
    saved = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))
    if not isinstance(saved, dict):
        raise UserError(f"{output}/config.yaml: expected the arguments of a run; choose another output")
    changed = [
        f"{key} ({saved.get(key, 'unset')!r} -> {config.get(key, 'unset')!r})"
        for key in {**saved, **config}
        if key not in RESUMABLE_CHANGES and key != "output" and saved.get(key) != config.get(key)
    ]
    if changed:
        raise UserError(
            f"{output}: a run must be resumed with its original config, but this changed: {', '.join(changed)}; "
            "change it back, or choose another output"
        )


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that affect results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"  # zhenlong itself, when run from a source folder
    return found


def _to_yaml(value: Any) -> Any:
    """Convert to YAML types: a function becomes its qualified name, any other object its `str`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _to_yaml(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_yaml(item) for item in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
