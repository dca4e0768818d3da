"""A user's own Python function as a reward."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.guarded_call import ANYTHING, describe_error, time_limit
from zhenlong.rewards.task_response import RewardFailed, RewardFn, TaskResponse

CALL_SECONDS: Final = 30.0  # of the processor for a call
SECONDS_PER_RESPONSE: Final = 5.0


def function_reward(function: Callable[..., Any], name: str = "") -> RewardFn:
    """`function(prompts, responses)` -> one number for each response, as a reward.

    `prompts` is a list of conversations, each a list of {"role", "content"}; `responses` a list of texts. A function
    with a parameter `references` is given the tasks' references too. What it raises becomes a `RewardFailed` (a
    UserError) that says where, and so does more than 30 s of processor time and 5 s for each response; wrap the result
    in `validated_reward` to test what it returns.
    """
    name = name or getattr(function, "__name__", "function")
    wants_references = "references" in inspect.signature(function).parameters

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        prompts = [[{"role": m.role, "content": m.content} for m in response.task.prompt] for response in responses]
        extra = {"references": [response.task.reference for response in responses]} if wants_references else {}
        try:
            with time_limit(CALL_SECONDS + SECONDS_PER_RESPONSE * len(responses)):
                returned: list[float] = function(prompts, [response.text for response in responses], **extra)
        except ANYTHING as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename}, line {last.lineno}"
            raise RewardFailed(f"reward {name}: it raised {describe_error(error)} ({place})") from error
        return returned

    return reward


def load_reward_function(spec: str) -> Callable[..., Any]:
    """The function named by `python:package.module.function` or `file.py:function`; UserError says what is missing."""
    return load_function(spec, "reward")


def load_function(spec: str, kind: str) -> Callable[..., Any]:
    """The same for another kind of function than a reward; `kind` is what errors call it."""
    if spec.startswith("python:"):
        path, _, attribute = spec.removeprefix("python:").rpartition(".")
        if not path:
            raise UserError(f"{kind} {spec}: expected python:module.function")
        module = _import_module(f"{kind} {spec}", path)
    else:
        path, _, attribute = spec.rpartition(":")
        module = _run_file(f"{kind} {spec}", Path(path).expanduser())
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UserError(f"{kind} {spec}: {path} has no function {attribute!r}")
    return function


def _import_module(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ImportError as error:
        raise UserError(f"{name}: cannot import {path} ({error})") from error


def _run_file(name: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"{name}: no file {path}")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: {path} cannot be run ({type(error).__name__}: {reason})") from error
    return module
