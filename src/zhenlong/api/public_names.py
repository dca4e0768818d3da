"""What `import zhenlong` offers: every tool of the registry, and the objects that one builds with.

Type checkers read `__init__.pyi`, which `python -m zhenlong.api.generate` writes from this list and the registry.
A package that has the name of a tool is called like it: `zhenlong.evaluate(...)` works beside `zhenlong.evaluate.run`.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any, Final

from zhenlong.registry import commands, python_names

OBJECT_TARGETS: Final = {
    "ChatTemplate": "zhenlong.data:ChatTemplate",
    "SamplingParams": "zhenlong.sampling:SamplingParams",
    "TorchSampler": "zhenlong.sampling:TorchSampler",
    "UserError": "zhenlong.errors:UserError",
    "World": "zhenlong.world:World",
    "build_reward_fn": "zhenlong.rewards:build_reward_fn",
    "gold_reward": "zhenlong.world:gold_reward",
    "load_model": "zhenlong.models:load_model",
    "read": "zhenlong.data:read",
    "save_model": "zhenlong.models:save_model",
    "write_report": "zhenlong.report:write_report",
}
"""Public names that are no tools, each with where it is."""

CALLABLE_PACKAGES: Final = ("evaluate", "report")
"""Tools whose name is also a package's: that package is the public name, and calling it calls the tool."""


def targets() -> dict[str, str]:
    """Every public name and where it is, as "module:name"."""
    return OBJECT_TARGETS | python_names()


class CallablePackage(ModuleType):
    """A package whose call is that of the tool of its name in the registry.

    Python sets `zhenlong.evaluate` to the package as soon as anything in it is imported, so the package takes the call.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return commands()[self.__name__.rpartition(".")[2]].load()(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(commands()[self.__name__.rpartition(".")[2]].load())


def make_callable(package: str) -> None:
    """Called by the package's own `__init__` with its `__name__`."""
    sys.modules[package].__class__ = CallablePackage
