"""The format of run, recipe and evaluation folders: one number, written into each and checked where it is read again.

It stands in the first line of config.yaml, and as `format` in progress.json and evaluation.json; 0.1.0 wrote none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError

FORMAT: Final = 2
"""Raised by one whenever a folder's files change so that an older version's cannot be read right."""
FORMAT_NOTE: Final = f"folder format {FORMAT}"
"""What the first line of config.yaml holds."""


def require_run_format(folder: str | Path) -> None:
    """Raise `UserError` where the folder's config.yaml was written in another format; without one there is no run."""
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        found = re.match(r"#.*\bfolder format (\d+)", lines.readline())
    _require(Path(folder), int(found[1]) if found else None)


def require_json_format(folder: str | Path, content: Mapping[str, Any]) -> None:
    """Raise `UserError` where progress.json or evaluation.json, whose content this is, has another format."""
    _require(Path(folder), content.get("format"))


def _require(folder: Path, found: Any) -> None:
    if found != FORMAT:
        written = "version 0.1.0" if found is None else f"a version with folder format {found}"
        raise UserError(
            f"{folder}: was written by {written} of zhenlong, and this one reads folder format {FORMAT}; "
            "choose another folder and make it again, or go on with the version that wrote it "
            "(a run's model/ can still be loaded)"
        )
