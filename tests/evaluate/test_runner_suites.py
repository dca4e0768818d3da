"""Suites: every scenario they list is there, and names are found by pattern."""

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.perturbations import PERTURBATIONS
from zhenlong.evaluate.runner.suites import entries, suites
from zhenlong.evaluate.scenarios import catalogue

NAMES = ["chat", "code", "helm", "holistic", "quick", "reasoning", "safety", "tools", "world"]


def test_the_suites_are_these():
    assert list(suites()) == NAMES
    assert all(one.about for one in suites().values())


@pytest.mark.parametrize("name", NAMES)
def test_every_listed_scenario_exists(name):
    found = entries(name, [])
    assert found
    assert len({one.scenario.name for one in found}) == len(found)
    assert all(set(one.perturbations or ()) <= set(PERTURBATIONS) for one in found)


@pytest.mark.parametrize("name", ["quick", "world"])
def test_what_runs_offline_generates_its_rows_and_needs_no_judge(name):
    for one in entries(name, []):
        assert one.scenario.source.startswith("generated:")
        assert one.scenario.examples.startswith(("", "generated:"))
        assert not one.scenario.judge


def test_a_suite_holds_the_scenarios_that_name_it_and_those_added():
    own = {name for name, one in catalogue().items() if "holistic" in one.suites}
    assert own <= {one.scenario.name for one in entries("holistic", [])}
    assert [one.scenario.name for one in entries("world", ["mmlu"])][-1] == "mmlu"
    matching = [one.scenario for one in entries("", ["world_*"])]
    assert {one.name for one in matching if not one.attack} == {"world_facts", "world_tasks"}
    assert {one.base for one in matching if one.attack} == {"world_tasks"}
    with pytest.raises(UserError, match="fits no scenario"):
        entries("", ["nothing_*"])
