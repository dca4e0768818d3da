"""Converters and generators for the built-in world: facts as multiple choice, tasks as conversations."""

from __future__ import annotations

from collections.abc import Iterator

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.instances import converter, generator
from zhenlong.world import World


@generator("world_facts")
def facts(n: int, seed: int, *, world: int = 0) -> Iterator[Fields]:
    """Prompts about the world's facts, each with four continuations."""
    for item in World(world).closed_book(n, seed):
        choices = [choice.removeprefix(" ") for choice in item.choices]
        yield {"prompt": item.prompt, "choices": choices, "answer": item.answer, "family": item.family}


@generator("world_tasks")
def tasks(n: int, seed: int, *, world: int = 0, split: str = "heldout") -> Iterator[Fields]:
    """Distinct prompts of the world."""
    for task in World(world).tasks(n, seed, split):
        messages = [{"role": message.role, "content": message.content} for message in task.prompt]
        yield {"messages": messages, "reference": task.reference, "groups": dict(task.groups), "world": world}


@converter("world_task")
def world_task(fields: Fields) -> Instance:
    """A task: the last turn is the input, earlier turns are its history."""
    *history, last = fields["messages"]
    return Instance(
        "",
        last["content"],
        (Reference(fields["reference"]),),
        groups=fields["groups"],
        data={"history": history, "messages": fields["messages"], "world": fields["world"]},
    )
