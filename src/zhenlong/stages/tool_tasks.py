"""From conversations with tool calls to tasks that the `tool_call` verifier can check, for GRPO and the like.

Each turn in which the assistant calls a tool is a task: the conversation so far is the prompt, the call the answer. A
first turn in which it answers in words though tools are offered is a task too, right when nothing is called; without
such tasks a policy learns to call something whatever it is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from zhenlong.data import BadRow, read
from zhenlong.data.message_parsing import message_text
from zhenlong.data.options import RowOptions
from zhenlong.errors import UserError
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.options import take_options
from zhenlong.options.keywords import RowKwargs
from zhenlong.records import Demonstration, Messages, Task, to_json
from zhenlong.verify import verify


def tool_tasks(
    *,
    data: str,
    output: str,
    no_call_tasks: bool = True,
    later_turns: bool = True,
    **options: Unpack[RowKwargs],
) -> Path:
    """Make verifiable tasks of conversations with tool calls.

    Args:
        data: Conversations with tools and calls, such as Glaive's in ShareGPT form.
        output: Folder for tasks.jsonl and tool_tasks.json, which counts what was made and what was left out.
        no_call_tasks: Make a task of a first answer without a call too; it is right when nothing is called.
        later_turns: Make tasks of later calls of a conversation too, not of the first alone.

    Returns the file. A call that its own conversation does not describe, or that the verifier would not accept as the
    answer to itself, is left out and counted. Raises `UserError` when no task is left.
    """
    (row_options,) = take_options(options, RowOptions())
    skipped: list[BadRow] = []
    rows = read(data, Demonstration, skip_bad_rows=row_options.skip_bad_rows, skipped=skipped)
    tasks: list[Task] = []
    counts = {"conversations": len(rows), "with_tools": 0, "calls": 0, "no_call": 0, "unverifiable": 0}
    for row in rows:
        counts["with_tools"] += bool(_functions(row.messages))
        for task, response in tasks_of(row, no_call_tasks, later_turns):
            if not _is_verifiable(task, response):
                counts["unverifiable"] += 1
                continue
            counts["calls" if task.arguments["ground_truth"] else "no_call"] += 1
            tasks.append(task)
    if not tasks:
        raise UserError(f"{data}: no conversation has tools and a call that can be verified; expected some")
    write_json(Path(output) / "tool_tasks.json", {**counts, "skipped": len(skipped)})
    path = Path(output) / "tasks.jsonl"
    write_text(path, "".join(json.dumps(to_json(task), ensure_ascii=False) + "\n" for task in tasks))
    return path


def tasks_of(row: Demonstration, no_call_tasks: bool = True, later_turns: bool = True) -> Iterator[tuple[Task, str]]:
    """The tasks of one conversation, each with what the assistant said there."""
    functions = _functions(row.messages)
    first = True
    for place, message in enumerate(row.messages):
        if message.role != "assistant" or not functions or not (first or later_turns):
            continue
        if message.tool_calls or (first and no_call_tasks):
            answers = [_expected_call(call) for call in message.tool_calls]
            arguments = {"functions": functions, "ground_truth": answers}
            yield Task(row.messages[:place], verifier="tool_call", arguments=arguments), message_text(message)
        first = False


def _functions(messages: Messages) -> list[dict[str, Any]]:
    """The functions that the system's turn offers, without the wrapping of the OpenAI schema."""
    return [dict(tool.get("function", tool)) for message in messages for tool in message.tools]


def _expected_call(call: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """A call as BFCL writes an answer: each argument with the values that are accepted."""
    function = call.get("function", call)
    return {function["name"]: {name: [_accepted_values(value)] for name, value in function["arguments"].items()}}


def _accepted_values(value: Any) -> Any:
    """Within an accepted mapping each key lists its own accepted values."""
    if isinstance(value, Mapping):
        return {name: [_accepted_values(one)] for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_accepted_values(one) for one in value]
    return value


def _is_verifiable(task: Task, response: str) -> bool:
    """Whether the verifier takes what was said as right; one that cannot read the task says no."""
    try:
        return verify(task, response) == 1.0
    except (UserError, TypeError, KeyError, AttributeError):
        return False
