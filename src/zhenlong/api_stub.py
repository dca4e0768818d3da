"""`__init__.pyi`, from which type checkers learn the public names: `python -m zhenlong.api_stub` writes it.

A test fails where it is out of date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zhenlong.public_api import targets

STUB: Final = Path(__file__).with_name("__init__.pyi")


def stub_text() -> str:
    """An import of every public name, and `__all__`."""
    public = targets()
    homes = sorted((*target.split(":"), name) for name, target in public.items())
    imports = [f"from {module} import {own_name} as {name}" for module, own_name, name in homes]
    names = [f'    "{name}",' for name in sorted(public)]
    head = "# Written by `python -m zhenlong.api_stub` from registry.py and public_api.py.\n"
    return "\n".join([head, *imports, "", "__version__: str", "__all__ = [", *names, "]", ""])


if __name__ == "__main__":
    STUB.write_text(stub_text(), encoding="utf-8")
