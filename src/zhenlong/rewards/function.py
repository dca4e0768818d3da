"""A user's own Python function as a reward."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.guarded_call import ANYTHING, describe_error, time_limit
from zhenlong.rewards.task_response import RewardFailed, RewardFn, TaskResponse

CALL_SECONDS: Final = 30.0  # of the processor for a call
SECONDS_PER_RESPONSE: Final = 5.0


def function_reward(function: Callable[..., Any], name: str = "") -> RewardFn:
    """`function(prompts, responses)` -> a number for each response, or None where it abstains, as a reward.

    The first two parameters are prompts (conversations, each a list of {"role", "content"}) and responses (texts). Any
    further parameter is given by its name: `references`, `messages` (prompts with their responses), `truncated`,
    `completion_ids`, and every column of the data; `**columns` takes all. A parameter `completions` makes it a function
    as TRL calls them: by name, responses as messages, or as texts where the data's prompts are texts. What it raises
    becomes a `RewardFailed` (a UserError) that says where, and so does more than 30 s of processor time and 5 s for
    each response; wrap the result in `validated_reward` to test what it returns.
    """
    name = name or getattr(function, "__name__", "function")
    parameters = inspect.signature(function).parameters

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        arguments, by_name = _arguments(parameters, responses, name)
        try:
            with time_limit(CALL_SECONDS + SECONDS_PER_RESPONSE * len(responses)):
                returned: list[float] = function(*arguments, **by_name)
        except ANYTHING as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename}, line {last.lineno}"
            raise RewardFailed(f"reward {name}: it raised {describe_error(error)} ({place})") from error
        return returned

    return reward


def _arguments(
    parameters: Mapping[str, inspect.Parameter], responses: Sequence[TaskResponse], name: str
) -> tuple[list[Any], dict[str, Any]]:
    """What a function is given: by place prompts and responses, and by name what its parameters name."""
    as_trl = "completions" in parameters
    known = _columns(responses, as_trl)
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    named = [one for one in parameters.values() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    arguments = [] if as_trl else [known["prompts"], known["responses"]]
    first = 0 if as_trl else sum(one.kind is one.POSITIONAL_OR_KEYWORD for one in named[:2])
    for one in named[first:]:
        if one.name not in known and one.default is one.empty:
            raise UserError(f"reward {name}: it asks for {one.name!r}; the data have {', '.join(sorted(known))}")
    wanted = {one.name for one in named[first:]}
    given_by_place = {one.name for one in named[:first]} | ({"prompts", "responses"} if not as_trl else set())
    by_name = {key: value for key, value in known.items() if key in wanted or (takes_all and key not in given_by_place)}
    return arguments, by_name


def _columns(responses: Sequence[TaskResponse], as_trl: bool) -> dict[str, list[Any]]:
    """All that a function may be given, each with a value for every response; None where a row has no such column."""
    prompts: list[Any] = [
        [{"role": m.role, "content": m.content} for m in response.task.prompt] for response in responses
    ]
    answers = [{"role": "assistant", "content": response.text} for response in responses]
    names = dict.fromkeys(column for response in responses for column in response.task.meta if column != "prompt")
    columns = {column: [response.task.meta.get(column) for response in responses] for column in names}
    columns |= {
        "prompts": prompts,
        "responses": [response.text for response in responses],
        "references": [response.task.reference for response in responses],
        "messages": [[*prompt, said] for prompt, said in zip(prompts, answers, strict=True)],
        "truncated": [response.truncated for response in responses],
        "completion_ids": [list(response.token_ids) for response in responses],
    }
    if as_trl:
        texts = [response.task.meta.get("prompt") for response in responses]
        are_texts = all(isinstance(text, str) for text in texts)
        columns["prompts"] = texts if are_texts else prompts
        columns["completions"] = columns["responses"] if are_texts else [[said] for said in answers]
    return columns


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
