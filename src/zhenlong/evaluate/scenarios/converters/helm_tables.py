"""Converters for HELM's classification and table tasks: RAFT, entity matching, data imputation.

Rules: stanford-crfm/helm:src/helm/benchmark/scenarios/{raft,entity_matching,entity_data_imputation}_scenario.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import yaml

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.helm_reading import present_groups
from zhenlong.evaluate.scenarios.converters.questions import text_field
from zhenlong.evaluate.scenarios.instances import converter

YES_NO_ANSWERS: Final = {"1": "Yes", "true": "Yes", "yes": "Yes", "0": "No", "false": "No", "no": "No"}
LABEL_ROWS: Final = ("Unlabeled",)  # class 0 of every RAFT task marks the hidden test rows


@converter("raft")
def convert_raft(fields: Fields) -> Instance:
    """RAFT: the fields of the task, one a line, and its label; the task's own instructions stand before the examples.

    `subset` names the task. `Label` is the name of the class, or its index in the hub's list of classes.
    """
    task = raft_tasks().get(str(fields.get("subset", "")))
    if task is None:
        raise ValueError(f"subset: expected one of {', '.join(raft_tasks())}, got {fields.get('subset')!r}")
    asked = "\n".join(f"{name}: {fields[name]}" for name in task["fields"])
    names = [*LABEL_ROWS, *task["labels"]]
    given = fields["Label"]
    label = names[int(given)] if str(given).isdigit() and int(given) < len(names) else str(given)
    if label in LABEL_ROWS or label not in names:
        raise ValueError(f"Label: expected one of {', '.join(names[1:4])}{' ...' * (len(names) > 4)}, got {given!r}")
    return Instance(
        "",
        asked,
        (Reference(label),),
        groups={"subset": str(fields["subset"])},
        labels=True,
        data={"instructions": f"{task['instructions'].strip()}\n"},
    )


@converter("same_entity")
def same_entity(fields: Fields, *, groups: Mapping[str, str] | None = None) -> Instance:
    """Do two rows describe one product? {productA, productB, same}, or a joined row of DeepMatcher's tables.

    In a joined row (`left_title`, `right_title`, ..., `label`) the columns of each side are concatenated.
    """
    if "productA" in fields:
        left, right, same = text_field(fields, "productA"), text_field(fields, "productB"), fields["same"]
    else:
        left, right, same = _side(fields, "left_"), _side(fields, "right_"), fields["label"]
    answer = YES_NO_ANSWERS.get(str(same).strip().lower())
    if answer is None:
        raise ValueError(f"same: expected true or false, got {same!r}")
    asked = f"Product A is {left}. Product B is {right}. Are A and B the same?"
    return Instance("", asked, (Reference(answer),), groups=present_groups(fields, groups), labels=True)


@converter("missing_value")
def missing_value(fields: Fields, *, columns: Mapping[str, str], groups: Mapping[str, str] | None = None) -> Instance:
    """What is the value of the missing column? {text, gold}, or a row of the table itself.

    `columns` maps each `subset` to the column to predict.
    """
    if "gold" in fields:
        return Instance(
            "",
            text_field(fields, "text"),
            (Reference(text_field(fields, "gold")),),
            groups=present_groups(fields, groups),
        )
    subset = str(fields.get("subset", ""))
    if subset not in columns:
        raise ValueError(f"subset: expected one of {', '.join(columns)}, got {subset!r}")
    missing = columns[subset]
    known = [f"{name}: {value}" for name, value in fields.items() if name not in (missing, "subset", "id", "class")]
    asked = f"{'. '.join(known)}. {missing}?"
    return Instance("", asked, (Reference(text_field(fields, missing)),), groups=present_groups(fields, groups))


@cache
def raft_tasks() -> dict[str, dict[str, Any]]:
    """For each RAFT task its fields in order, instructions and labels (oughtinc/raft-baselines)."""
    place = files("zhenlong.evaluate.scenarios.converters") / "raft_tasks.yml"
    tasks: dict[str, dict[str, Any]] = yaml.safe_load(place.read_text(encoding="utf-8"))
    return tasks


def _side(fields: Fields, prefix: str) -> str:
    found = {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}
    if not found:
        raise KeyError(f"productA, or {prefix}<column>")
    return ". ".join(f"{name}: {value}" for name, value in found.items() if name != "id")
