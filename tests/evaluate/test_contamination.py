"""Training rows that contain evaluation items are reported, for scenarios and for files."""

import json

import pytest

from zhenlong.cli import main
from zhenlong.errors import UserError
from zhenlong.evaluate.audit.contamination import contamination, items_of, record_texts
from zhenlong.evaluate.scenarios import get_scenario, load_instances
from zhenlong.records import Demonstration, Document, Message, Ranking, Rating, Task

ASKED = "A farmer has twelve red hens and sells five of them at the market on Monday, how many are left?"
ANSWERED = "He had twelve hens in all and five of them were sold so that seven hens are left.\n#### 7"
ROWS = [
    {"messages": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Red."}]},
    {"messages": [{"role": "user", "content": f"Solve this: {ASKED}"}, {"role": "assistant", "content": "7"}]},
    {"messages": [{"role": "user", "content": ASKED.upper()}, {"role": "assistant", "content": "7"}]},
]


@pytest.fixture
def write(tmp_path):
    def rows(name, given):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in given))
        return str(path)

    return rows


@pytest.fixture
def report(tmp_path):
    """The JSON of a run on training rows and evaluations."""

    def run(train, evaluation, **options):
        contamination(train=train, evaluation=evaluation, output=str(tmp_path / "c.json"), **options)
        return json.loads((tmp_path / "c.json").read_text())["evaluations"]

    return run


def test_contaminated_rows_are_reported_with_the_overlap(write, report, capsys):
    train = write("train.jsonl", ROWS)
    questions = write("eval.jsonl", [{"question": "And 1?", "answer": "1"}, {"question": ASKED, "answer": ANSWERED}])
    (found,) = report(train, questions)
    assert (found["items"], found["contaminated_items"], found["rows"], found["contaminated_rows"]) == (2, 1, 3, 2)
    assert [(hit["row"][-6:], hit["item"][-6:], hit["exact"]) for hit in found["hits"]] == [
        ("line 2", "line 2", False),
        ("line 3", "line 2", True),
    ]
    said = capsys.readouterr().out
    assert f"{train}, line 3 - {questions}, line 2: the question itself: a farmer has twelve" in said


def test_answers_count_as_overlaps_and_not_as_identical_questions(write, report):
    pairs = [{"prompt": ASKED, "chosen": ANSWERED, "rejected": "seven"}]
    train = write("train.jsonl", [{"text": f"Copied: {ANSWERED}"}, {"text": "seven"}])
    (found,) = report(train, write("eval.jsonl", pairs))
    assert [hit["row"][-6:] for hit in found["hits"]] == ["line 1"]


def test_a_scenario_is_found_by_its_name(write, report):
    instance = next(one for one in load_instances(get_scenario("world_tasks"), limit=20) if len(one.input.split()) > 13)
    train = write("train.jsonl", [*ROWS, {"messages": [
        {"role": "user", "content": f"Here: {instance.input}"}, {"role": "assistant", "content": "Hm."}]}])  # fmt: skip
    (found,) = report(train, "world_tasks", limit=20)
    assert found["items"] == 20
    assert {hit["item"] for hit in found["hits"]} >= {instance.id}
    assert {hit["row"][-6:] for hit in found["hits"]} == {"line 4"}


def test_items_have_user_turns_as_questions_and_other_text_as_answers(write):
    path = write("eval.jsonl", ROWS[:1])
    (item,) = items_of(path)
    assert (item.questions, item.answers) == (("Name a colour.",), ("Red.",))
    (text,) = items_of(write("text.jsonl", [{"text": "Red is a colour."}]))
    assert (text.questions, text.answers) == (("Red is a colour.",), ())
    assert len(items_of(write("many.jsonl", ROWS), limit=2)) == 2


def test_every_text_of_a_record_is_checked():
    ask = (Message("user", "ask"),)
    assert record_texts(Document("a")) == ["a"]
    assert record_texts(Demonstration((*ask, Message("assistant", "b")))) == ["ask", "b"]
    assert record_texts(Ranking(ask, ("b", "c"), (1, 2))) == ["ask", "b", "c"]
    assert record_texts(Rating(ask, "b", True)) == ["ask", "b"]
    assert record_texts(Task(ask, "b")) == ["ask", "b"]


def test_a_wrong_option_is_a_one_line_error(write, capsys):
    train = write("train.jsonl", ROWS)
    with pytest.raises(SystemExit) as stop:
        main(["data", "contamination", "--train", train, "--evaluation", "gsm8"])
    assert stop.value.code == 2
    assert "scenario 'gsm8' is not known; did you mean gsm8k" in capsys.readouterr().err
    with pytest.raises(UserError, match="expected ngram and max_shared_items above 0"):
        contamination(train=train, evaluation=train, ngram=0)
