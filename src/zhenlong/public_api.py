"""What `import zhenlong` offers: every tool of the registry, and the objects that one builds with.

Type checkers read `__init__.pyi`, which `python -m zhenlong.api_stub` writes from this list and the registry.
"""

from __future__ import annotations

from typing import Final

from zhenlong.registry import python_names

OBJECTS: Final = {
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
    return OBJECTS | python_names()
