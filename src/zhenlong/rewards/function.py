"""A user's own Python function as a reward."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from zhenlong.errors import UserError
from zhenlong.rewards.answer import Answer, Reward


def function_reward(function: Callable[..., Any], name: str = "") -> Reward:
    """`function(prompts, responses)` -> one number for each response, as a reward.

    `prompts` is a list of conversations, each a list of {"role", "content"}; `responses` a list of texts. A function
    with a parameter `references` is given the tasks' references too. What it raises becomes a UserError that says
    where; wrap the result in `checked` to test what it returns.
    """
    name = name or getattr(function, "__name__", "function")
    wants_references = "references" in inspect.signature(function).parameters

    def reward(answers: Sequence[Answer]) -> list[float]:
        prompts = [[{"role": m.role, "content": m.content} for m in answer.task.prompt] for answer in answers]
        extra = {"references": [answer.task.reference for answer in answers]} if wants_references else {}
        try:
            returned: list[float] = function(prompts, [answer.text for answer in answers], **extra)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename}, line {last.lineno}"
            raise UserError(f"reward {name}: it raised {type(error).__name__}: {error} ({place})") from error
        return returned

    return reward


def load_function(spec: str) -> Callable[..., Any]:
    """The function named by `python:package.module.function` or `file.py:function`; UserError says what is missing."""
    if spec.startswith("python:"):
        path, _, attribute = spec.removeprefix("python:").rpartition(".")
        if not path:
            raise UserError(f"reward {spec}: expected python:module.function")
        module = _imported(spec, path)
    else:
        path, _, attribute = spec.rpartition(":")
        module = _executed(spec, Path(path).expanduser())
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UserError(f"reward {spec}: {path} has no function {attribute!r}")
    return function


def _imported(spec: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ImportError as error:
        raise UserError(f"reward {spec}: cannot import {path} ({error})") from error


def _executed(spec: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"reward {spec}: no file {path}")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"reward {spec}: {path} cannot be run ({type(error).__name__}: {error})") from error
    return module
