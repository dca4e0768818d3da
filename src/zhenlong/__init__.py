"""Post-train a language model, and prove that it got better.

    import zhenlong

    zhenlong.sft(model="pocket", data="world:demonstrations?n=3000", output="runs/sft", lr=1e-3)

Every command is a function with the same options, imported when it is first used; `dir(zhenlong)` lists them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from zhenlong.api.public_names import CALLABLE_PACKAGES, targets
from zhenlong.registry import load_target

__all__ = sorted(targets())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zhenlong")
    target = targets().get(name)
    if target is None:
        raise AttributeError(f"module 'zhenlong' has no attribute {name!r}")
    return import_module(f"zhenlong.{name}") if name in CALLABLE_PACKAGES else load_target(target)


def __dir__() -> list[str]:
    return __all__
