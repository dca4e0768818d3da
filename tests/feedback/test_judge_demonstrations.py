"""Demonstrations of judging: worded as the judge is asked, and saying what the ranking says."""

import json

import pytest

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.feedback.judge_demonstrations import judge_demonstrations
from zhenlong.feedback.pairwise_judge import comparison_messages, read_verdict
from zhenlong.feedback.pointwise_judge import read_score, scoring_messages
from zhenlong.records import Demonstration, Message, Ranking, to_json

PROMPT = (Message("user", "Name a colour."),)


def made(tmp_path, rankings, **options):
    data = tmp_path / "rankings.jsonl"
    data.write_text("".join(json.dumps(to_json(one)) + "\n" for one in rankings))
    return read(str(judge_demonstrations(data=str(data), output=str(tmp_path / "o"), **options)), Demonstration)


def test_points_fall_from_best_to_worst_and_are_read_as_the_judge_reads_them(tmp_path):
    rows = made(tmp_path, [Ranking(PROMPT, ("Blue.", "Cat.", "No."), (1, 3, 2))])
    assert [row.messages[:-1] for row in rows] == [scoring_messages(PROMPT, text) for text in ("Blue.", "Cat.", "No.")]
    assert [read_score(row.messages[-1].content).value for row in rows] == [5.0, 1.0, 3.0]


def test_a_verdict_names_the_better_answer_wherever_it_is_shown(tmp_path):
    rankings = [Ranking(PROMPT, (f"Blue {i}.", f"Cat {i}."), (1, 2), 3) for i in range(20)]
    firsts = set()
    for ranking, row in zip(rankings, made(tmp_path, rankings, judge_mode="pairwise"), strict=True):
        said = read_verdict(row.messages[-1].content).value
        shown = ranking.responses if said.first_is_better else ranking.responses[::-1]
        assert row.messages[:-1] == comparison_messages(PROMPT, *shown)
        assert said.strength == 3
        firsts.add(said.first_is_better)
    assert firsts == {True, False}


def test_ties_teach_nothing(tmp_path):
    tied = Ranking(PROMPT, ("a", "b", "c"), (1, 2, 2))
    assert len(made(tmp_path, [tied], judge_mode="pairwise")) == 2
    assert [read_score(row.messages[-1].content).value for row in made(tmp_path, [tied])] == [5.0, 1.0, 1.0]


def test_an_unknown_judge_is_refused(tmp_path):
    with pytest.raises(UserError, match="pointwise or pairwise"):
        made(tmp_path, [Ranking(PROMPT, ("a", "b"), (1, 2))], judge_mode="letters")
