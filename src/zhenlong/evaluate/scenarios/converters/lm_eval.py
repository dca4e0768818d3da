"""Documents of tasks of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.scenarios.instances import converter, generator
from zhenlong.evaluate.scenarios.lm_eval import document_instance, task_documents


@generator("lm_eval")
def rows(n: int, seed: int, *, task: str, include: str = "", part: str = "test") -> Iterator[Mapping[str, Any]]:
    """All documents of a task's part; `n` and `seed` change nothing."""
    yield from task_documents(task, include, part)


@converter("lm_eval")
def document(fields: Mapping[str, Any], *, task: str, include: str = "") -> Instance:
    """A document as its task reads it."""
    return document_instance(fields["doc"], task, include)
