"""Packages with the name of a tool are called like it: `zhenlong.evaluate(...)` works beside `zhenlong.evaluate.run`.

Python sets `zhenlong.evaluate` to the package as soon as anything in it is imported, so the package takes the call.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from zhenlong.registry import commands


class CallablePackage(ModuleType):
    """A package whose call is that of the tool of its name in the registry."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return commands()[self.__name__.rpartition(".")[2]].load()(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(commands()[self.__name__.rpartition(".")[2]].load())


def make_callable(package: str) -> None:
    """Called by the package's own `__init__` with its `__name__`."""
    sys.modules[package].__class__ = CallablePackage
