"""A written constitution: the principles that a model criticises, revises and compares answers by (Bai et al. 2022).

principles:
  - name: harm
    critique: Look at your last answer. Does any part of it ...
    revision: Write your last answer again without ...
    preference: Which answer is the less harmful one?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any, Final

import yaml

from zhenlong.errors import UserError

DEFAULT_CONSTITUTION: Final = "default"


@dataclass(frozen=True)
class Principle:
    """One principle: how the model is asked for a critique and a revision, and how two answers are compared by it."""

    name: str
    critique: str
    revision: str
    preference: str


def read_constitution(path: str = DEFAULT_CONSTITUTION) -> tuple[Principle, ...]:
    """The principles of a YAML file, or of the one that comes with the package (`default`).

    Raises `UserError` for a file that cannot be read, one without principles, and a principle with a part missing,
    unknown, or named like another.
    """
    loaded = _load_yaml(path)
    entries = loaded.get("principles") if isinstance(loaded, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"constitution {path}: has no principles; expected a list of them under `principles:`")
    principles = tuple(_parse_principle(path, number, one) for number, one in enumerate(entries, 1))
    names = [one.name for one in principles]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise UserError(f"constitution {path}: two principles are named {duplicate!r}; expected every name once")
    return principles


def sample_principle(principles: tuple[Principle, ...], *seed_parts: str | int) -> Principle:
    """One of the principles at random; the same for the same names (the seed, the record, the round)."""
    return Random(":".join(map(str, ("principle", *seed_parts)))).choice(principles)


def _load_yaml(path: str) -> Any:
    try:
        if path == DEFAULT_CONSTITUTION:
            return yaml.safe_load(files("zhenlong.feedback").joinpath("constitution.yaml").read_text(encoding="utf-8"))
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"constitution {path}: cannot be read as YAML ({reason}); give a file, or default") from None


def _parse_principle(path: str, number: int, entry: Any) -> Principle:
    place, parts = f"constitution {path}: principle {number}", [item.name for item in fields(Principle)]
    if not isinstance(entry, Mapping):
        raise UserError(f"{place}: expected {', '.join(parts)}, got {type(entry).__name__}")
    unknown = sorted(set(map(str, entry)) - set(parts))
    if unknown:
        raise UserError(f"{place}: no part {unknown[0]}; expected {', '.join(parts)}")
    for part in parts:
        if not isinstance(entry.get(part), str) or not entry[part].strip():
            raise UserError(f"{place}: {part}: expected some text, got {entry.get(part)!r}")
    return Principle(**{part: entry[part].strip() for part in parts})
