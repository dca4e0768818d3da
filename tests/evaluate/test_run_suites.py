"""Suites: every listed scenario exists, and names are matched by pattern."""

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.perturb import PERTURBATIONS
from zhenlong.evaluate.run.suites import all_suites, select_entries
from zhenlong.evaluate.scenarios import all_scenarios, load_instances

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
def test_offline_suites_generate_their_rows_and_need_no_judge(name):
    for one in select_entries(name, []):
        assert one.scenario.source.startswith("generated:")
        assert one.scenario.examples.startswith(("", "generated:"))
        assert not one.scenario.judge


def test_a_suite_contains_its_list_and_the_scenarios_that_name_it():
    own = {name for name, one in all_scenarios().items() if "holistic" in one.suites}
    assert own <= {one.scenario.name for one in select_entries("holistic", [])}
    assert [one.scenario.name for one in select_entries("world", ["mmlu"])][-1] == "mmlu"
    matching = [one.scenario for one in select_entries("", ["world_*"])]
    assert {one.name for one in matching if not one.attack} == {"world_facts", "world_tasks"}
    assert {one.base_scenario for one in matching if one.attack} == {"world_tasks"}
    with pytest.raises(UserError, match="fits no scenario"):
        select_entries("", ["nothing_*"])


OWN_SCENARIO = """
name: tea_shop
title: The tea shop
source: {rows}
convert: {{using: question_answer, question: prompt, answer: completion}}
adapter: {{method: chat}}
metrics: [exact_match]
main: exact_match
"""


def test_a_path_names_a_scenario_of_the_users_own(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Which tea?", "completion": "Green."}\n', encoding="utf-8")
    path = tmp_path / "shop.yaml"
    path.write_text(OWN_SCENARIO.format(rows=rows), encoding="utf-8")
    (entry,) = select_entries("", [str(path)])
    (instance,) = load_instances(entry.scenario)
    assert entry.scenario.name == "tea_shop"
    assert instance.correct_texts == ("Green.",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "shop.yaml: cannot be read"),
        ("name: [", "shop.yaml: not valid YAML"),
        ("name: tea_shop", "shop.yaml: source is missing"),
        (OWN_SCENARIO.format(rows="rows.jsonl").replace("tea_shop", "gsm8k"), "gsm8k is a built-in scenario"),
    ],
)
def test_a_scenario_file_that_cannot_be_used_is_named_with_its_problem(tmp_path, text, expected):
    path = tmp_path / "shop.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        select_entries("", [str(path)])
