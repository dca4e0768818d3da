"""Recorded trajectories of tau-bench and tau2-bench: the reward of every task and trial.

{"task_id", "reward", "info", "traj", "trial"}                              tau-bench, a list
{"tasks", "simulations": [{"task_id", "trial", "reward_info": {...}}]}      tau2-bench, one object
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from zhenlong.data.files import RawRow
from zhenlong.errors import UserError
from zhenlong.evaluate.transcripts.transcript import (
    ReadingContext,
    Transcript,
    TranscriptFormat,
    TranscriptRow,
    has_fields,
    read_field,
    read_row_id,
)

ERROR_REASONS: Final = ("infrastructure_error", "too_many_errors")  # of tau2-bench; the first is nobody's answer


def read_trajectories(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """One row for each task and trial."""
    found = []
    for row in rows:
        reward, trial = row.fields.get("reward"), row.fields.get("trial")
        if trial is not None:
            read_field(row, "trial", int, "a number from 0 on")
        if reward is None:
            fields: dict[str, Any] = {"failed": "no reward"}
        else:
            fields = {"reward": float(read_field(row, "reward", (int, float), "a number"))}
        found.append(TranscriptRow(row.location, fields, read_row_id(row, ["task_id"]), trial=trial))
    return Transcript("trajectories of tau-bench", found)


def simulation_rows(path: Path) -> Iterator[RawRow]:
    """The simulations of tau2-bench as rows of tau-bench, with the domain and the agent's instructions of the task."""
    whole = json.loads(path.read_text(encoding="utf-8-sig"))
    tasks = {str(one.get("id")): one for one in whole.get("tasks") or [] if isinstance(one, Mapping)}
    info = whole.get("info") if isinstance(whole.get("info"), Mapping) else {}
    domain = (info.get("environment_info") or {}).get("domain_name", "")
    for number, one in enumerate(whole["simulations"]):
        place = f"{path}, simulation {number}"
        if not isinstance(one, Mapping):
            raise UserError(f"{place}: expected an object, got {type(one).__name__}")
        reward = (one.get("reward_info") or {}).get("reward")
        fields = {"task_id": one.get("task_id"), "trial": one.get("trial"), "reward": reward}
        task = tasks.get(str(one.get("task_id")), {})
        yield RawRow(place, {**fields, "domain": domain, "task": task})


TAU_BENCH_FORMATS: Final = (
    TranscriptFormat("tau-bench trajectories", has_fields("task_id", "reward"), read_trajectories),
)
