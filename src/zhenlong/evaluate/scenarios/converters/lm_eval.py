"""Converter and generator for documents of lm-evaluation-harness tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.scenarios.instances import converter, generator
from zhenlong.evaluate.scenarios.lm_eval import document_instance, task_documents


@generator("lm_eval")
def rows(n: int, seed: int, *, task: str, include: str = "", part: str = "test") -> Iterator[Mapping[str, Any]]:
    """All documents of one part of a task; `n` and `seed` are ignored."""
    yield from task_documents(task, include, part)


@converter("lm_eval")
def document(fields: Mapping[str, Any], *, task: str, include: str = "") -> Instance:
    """A document as an instance, by the task's own rules."""
    return document_instance(fields["doc"], task, include)
