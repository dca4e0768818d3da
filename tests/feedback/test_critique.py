"""Constitutions, and the rounds of critique and revision under one."""

import json
from collections import Counter

import pytest
from speakers import Speaker, answers_shown

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.feedback.constitution import Principle, read_constitution, sample_principle
from zhenlong.feedback.critique import critique
from zhenlong.records import Demonstration, Ranking

OWN = """principles:
  - {name: one, critique: Find fault one., revision: Mend one., preference: "Which by one?"}
  - {name: two, critique: Find fault two., revision: Mend two., preference: "Which by two?"}
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return str(path)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"question": f"Question {i}?", "answer": ""}) + "\n" for i in range(12)))
    return str(path)


def reviser(messages, k):
    """Says which turn it is at, so that every part can be told apart."""
    text = messages[-1].content
    if text.startswith("Find fault"):
        return f"fault of <{messages[-2].content}>"
    if text.startswith("Mend"):
        return f"{messages[-4].content}+{text.split()[1][:-1]}"
    return "first"


def traces(folder):
    return [json.loads(line) for line in (folder / "critiques.jsonl").read_text().splitlines()]


def test_each_round_criticises_the_answer_as_it_is_and_the_last_revision_is_the_demonstration(
    stand_in, own, prompts, tmp_path
):
    speaker = stand_in(Speaker(reviser))
    folder = critique(model="m", data=prompts, output=str(tmp_path / "out"), constitution=own, num_revisions=2)
    demonstrations, rankings = (
        read(str(folder / f"{name}.jsonl"), kind)
        for name, kind in (("demonstrations", Demonstration), ("rankings", Ranking))
    )
    assert len(demonstrations) == len(rankings) == 12
    for trace, shown, ranking in zip(traces(folder), demonstrations, rankings, strict=True):
        names = [one["principle"] for one in trace["steps"]]
        answer = "first"
        for one in trace["steps"]:
            assert one["critique"] == f"fault of <{answer}>"
            answer = f"{answer}+{one['principle']}"
            assert one["revision"] == answer
        assert shown.messages[-1].content == answer
        assert shown.meta["principles"] == names
        assert ranking.responses == (answer, "first")
        assert ranking.ranks == (1, 2)
    (mending,) = [one for one in speaker.asked if one.prompt[-1].content.startswith("Mend")][:1]
    assert [message.role for message in mending.prompt] == ["user", "assistant", "user", "assistant", "user"]
    report = json.loads((folder / "report.json").read_text())
    assert (report["prompts"], report["revised"], report["changed"], report["failed"]) == (12, 12, 12, 0)
    assert sum(report["principles"].values()) == 24


def test_principles_are_drawn_by_the_seed(own):
    principles = read_constitution(own)
    first, again, other = (
        [sample_principle(principles, seed, place, 0).name for place in range(200)] for seed in (0, 0, 1)
    )
    assert first == again != other
    assert min(Counter(first).values()) > 70
    assert first != [sample_principle(principles, 0, place, 1).name for place in range(200)]


def test_what_cannot_be_revised_is_counted_and_left_out(stand_in, own, prompts, tmp_path):
    def say(messages, k):
        if messages[0].content == "Question 3?":
            return " "
        if messages[0].content == "Question 4?" and messages[-1].content.startswith("Find"):
            return "cut"
        if messages[0].content == "Question 5?" and messages[-1].content.startswith("Mend"):
            return messages[1].content
        return reviser(messages, k)

    stand_in(Speaker(say, cut=lambda text: text == "cut"))
    folder = critique(model="m", data=prompts, output=str(tmp_path / "out"), constitution=own)
    report = json.loads((folder / "report.json").read_text())
    assert (report["revised"], report["changed"], report["failed"]) == (10, 9, 2)
    assert len(read(str(folder / "demonstrations.jsonl"), Demonstration)) == 10
    assert len(read(str(folder / "rankings.jsonl"), Ranking)) == 9  # an answer left as it was prefers nothing
    failed = {one["prompt"][0]["content"]: one["failure"] for one in traces(folder) if "failure" in one}
    assert failed == {
        "Question 3?": "its answer is empty",
        "Question 4?": "step 1: its critique is cut off at max_tokens",
    }


def test_nothing_revised_is_an_error(stand_in, own, prompts, tmp_path):
    stand_in(Speaker(lambda messages, k: ""))
    with pytest.raises(UserError, match=r"no revision came out of .*; the first: its answer is empty"):
        critique(model="m", data=prompts, output=str(tmp_path / "out"), constitution=own)
    assert not (tmp_path / "out" / "demonstrations.jsonl").exists()


def test_a_judge_compares_by_the_last_principle_and_may_prefer_the_first_answer(stand_in, own, prompts, tmp_path):
    def say(messages, k):
        text = messages[-1].content
        if "[Answer A]" not in text:
            return reviser(messages, k)
        wanted = "+one" if "Which by one?" in text else "first"
        a, _ = answers_shown(text)
        return f"[[{'A' if a.endswith(wanted) else 'B'}2]]"

    stand_in(Speaker(say))
    folder = critique(
        model="m", data=prompts, output=str(tmp_path / "out"), constitution=own, preference_source="judge"
    )
    for trace, ranking in zip(traces(folder), read(str(folder / "rankings.jsonl"), Ranking), strict=True):
        revision_won = trace["steps"][-1]["principle"] == "one"
        assert ranking.ranks == ((1, 2) if revision_won else (2, 1))
        assert ranking.strength == 2
    report = json.loads((folder / "report.json").read_text())
    assert 0 < report["judge"]["revision_preferred"] < 1


def test_the_second_time_nothing_is_asked_again(stand_in, own, prompts, tmp_path):
    speaker = stand_in(Speaker(reviser))
    for _ in range(2):
        critique(model="m", data=prompts, output=str(tmp_path / "out"), constitution=own)
    assert len(speaker.asked) == 3 * 12


def test_the_constitution_of_the_package_is_whole():
    principles = read_constitution()
    assert len(principles) >= 5
    assert all(isinstance(one, Principle) for one in principles)
    assert all(one.preference.endswith("?") for one in principles)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("principles: []", "has no principles"),
        ("", "has no principles"),
        ("rules: [a]", "has no principles"),
        ("- a", "has no principles"),
        ("principles: [be good]", "principle 1: expected name, critique, revision, preference, got str"),
        ("principles: [{name: a, critique: b, revision: c}]", "principle 1: preference: expected some text, got None"),
        ("principles: [{name: a, critique: b, revision: c, preference: d, weight: 2}]", "principle 1: no part weight"),
        (OWN.replace("two,", "one,", 1), "two principles are named 'one'"),
        ("principles: [", "cannot be read as YAML"),
    ],
)
def test_a_constitution_that_is_none_is_one_clear_line(text, said, tmp_path):
    path = tmp_path / "constitution.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as problem:
        read_constitution(str(path))
    assert "\n" not in str(problem.value)
    assert str(path) in str(problem.value)


def test_mistakes_are_found_before_anything_is_written(prompts, tmp_path):
    for wrong, said in [
        ({"num_revisions": 0}, "num_revisions: expected 1 or more"),
        ({"model": "runs/none"}, "no such folder"),
        ({"judge": "pocket"}, "judge: is asked only with preference_source judge"),
        ({"data": str(tmp_path / "none.jsonl")}, "none.jsonl"),
    ]:
        with pytest.raises(UserError, match=said):
            critique(**{"model": "pocket", "data": prompts, "output": str(tmp_path / "out"), **wrong})
    assert not (tmp_path / "out").exists()
