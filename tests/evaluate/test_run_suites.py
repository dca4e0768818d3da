"""Suites: every scenario they list is there, and names are found by pattern."""

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.perturb import PERTURBATIONS
from zhenlong.evaluate.run.suites import all_suites, select_entries
from zhenlong.evaluate.scenarios import all_scenarios

NAMES = ["chat", "code", "helm", "holistic", "quick", "reasoning", "safety", "tools", "world"]


def test_the_suites_are_these():
    assert list(all_suites()) == NAMES
    assert all(one.description for one in all_suites().values())


@pytest.mark.parametrize("name", NAMES)
def test_every_listed_scenario_exists(name):
    found = select_entries(name, [])
    assert found
    assert len({one.scenario.name for one in found}) == len(found)
    assert all(set(one.perturbations or ()) <= set(PERTURBATIONS) for one in found)


@pytest.mark.parametrize("name", ["quick", "world"])
def test_what_runs_offline_generates_its_rows_and_needs_no_judge(name):
    for one in select_entries(name, []):
        assert one.scenario.source.startswith("generated:")
        assert one.scenario.examples.startswith(("", "generated:"))
        assert not one.scenario.judge


def test_a_suite_holds_the_scenarios_that_name_it_and_those_added():
    own = {name for name, one in all_scenarios().items() if "holistic" in one.suites}
    assert own <= {one.scenario.name for one in select_entries("holistic", [])}
    assert [one.scenario.name for one in select_entries("world", ["mmlu"])][-1] == "mmlu"
    matching = [one.scenario for one in select_entries("", ["world_*"])]
    assert {one.name for one in matching if not one.attack} == {"world_facts", "world_tasks"}
    assert {one.base_scenario for one in matching if one.attack} == {"world_tasks"}
    with pytest.raises(UserError, match="fits no scenario"):
        select_entries("", ["nothing_*"])
