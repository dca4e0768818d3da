"""`limit`: a sample that is the same in every run, spread over groups, without bias."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.scenarios.instances import load_instances, spread_sample
from zhenlong.evaluate.scenarios.scenario import get_scenario


def rows(sizes: dict[str, int]) -> list[list[Instance]]:
    """One instance a row, sorted by subject as published files are."""
    subjects = [subject for subject, size in sizes.items() for _ in range(size)]
    return [[Instance(str(place), "q", groups={"subject": subject})] for place, subject in enumerate(subjects)]


def test_each_group_has_its_share() -> None:
    found = spread_sample(rows({"algebra": 700, "law": 200, "art": 100}), 50)
    counts = Counter(row[0].groups["subject"] for row in found)
    assert sum(counts.values()) == 50
    assert abs(counts["algebra"] - 35) <= 1
    assert abs(counts["law"] - 10) <= 1
    assert abs(counts["art"] - 5) <= 1


def test_rows_keep_their_order_and_all_are_taken_where_there_are_fewer() -> None:
    every = rows({"a": 30, "b": 30})
    found = [int(row[0].id) for row in spread_sample(every, 20)]
    assert found == sorted(found)
    assert found != list(range(20))
    assert spread_sample(every, 60) == every
    assert spread_sample(every, 1000) == every


@pytest.mark.parametrize("limit", [1, 2, 7, 99, 100])
@pytest.mark.parametrize("count", [100, 101, 977])
def test_exactly_so_many_are_taken(limit: int, count: int) -> None:
    assert len(spread_sample(rows({"a": count - 40, "b": 40}), limit)) == limit


def test_instances_of_a_row_stay_together() -> None:
    pairs = [[Instance(f"{place}-{half}", "q") for half in "ab"] for place in range(40)]
    found = spread_sample(pairs, 10)
    assert len(found) == 5
    assert all(len(row) == 2 for row in found)


def test_the_sample_depends_on_neither_seed_nor_run(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "".join(json.dumps({"question": str(n), "answer": "x"}) + "\n" for n in range(50)), encoding="utf-8"
    )
    path = tmp_path / "own.yaml"
    path.write_text("source: rows.jsonl\nmetrics: [exact_match]\n", encoding="utf-8")
    scenario = get_scenario(str(path))
    found = [load_instances(scenario, limit=5, seed=seed) for seed in (0, 0, 3)]
    assert found[0] == found[1] == found[2]
    assert all(one.id == one.input for one in found[0])  # the number of the row in its file
