"""Converted rows give the same records, unrepresentable records are errors, and validation finds every problem."""

import json

import pytest
from data.rows import CHAT, DEMONSTRATION, DIALOGUE, FORMATS, RANKING, RATING, USER
from hypothesis import given, settings
from hypothesis import strategies as st

from zhenlong.cli import main
from zhenlong.data import read
from zhenlong.data.commands import convert, validate
from zhenlong.data.writers import WRITERS, iter_record_rows
from zhenlong.errors import UserError
from zhenlong.records import Demonstration, Document, Message, Ranking, Rating, from_json, to_json

WORDS = st.text(st.sampled_from("hi é\n.{}"), min_size=1, max_size=8).filter(str.strip)
META = st.dictionaries(st.sampled_from(["id", "topic", "lang"]), st.integers() | st.booleans() | WORDS, max_size=2)
CALL = {"type": "function", "function": {"name": "find", "arguments": {"x": [1, None]}}}
TOOLS = ({"type": "function", "function": {"name": "find", "parameters": {}}},)


@st.composite
def prompts(draw, rounds=2, system=True):
    turns = []
    if system and draw(st.booleans()):
        turns.append(Message("system", draw(WORDS)))
    for _ in range(draw(st.integers(0, rounds))):
        turns += [Message("user", draw(WORDS)), Message("assistant", draw(WORDS))]
    return (*turns, Message("user", draw(WORDS)))


ANSWER = st.builds(lambda text: Message("assistant", text), WORDS)
CHATS = st.builds(lambda before, answer, meta: Demonstration((*before, answer), meta=meta), prompts(), ANSWER, META)
SINGLE = st.builds(lambda before, answer: Demonstration((*before, answer)), prompts(0, system=False), ANSWER)
RESPONSES = st.lists(WORDS, min_size=3, max_size=3, unique=True)
RANKED = st.builds(
    lambda before, said, ranks, strength, meta: Ranking(before, tuple(said), ranks, strength, "ann", meta=meta),
    prompts(), RESPONSES, st.permutations((1, 2, 2)), st.none() | st.integers(1, 4), META,
)  # fmt: skip
RATED = st.builds(Rating, prompts(), WORDS, st.booleans(), META)
DOCUMENTS = st.builds(Document, WORDS, st.sampled_from(["", "web"]))
RECORDS = {
    "messages": CHATS, "sharegpt": CHATS, "alpaca": CHATS, "prompt_completion": CHATS, "flan": SINGLE,
    "kwise": RANKED, "trl_unpaired": RATED, "text": DOCUMENTS, "zhenlong": CHATS | RANKED | RATED | DOCUMENTS,
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_a_written_row_gives_the_same_record(name, data, tmp_path_factory):
    record = data.draw(RECORDS[name])
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in iter_record_rows(record, name)))
    assert read(str(path), type(record)) == [record]


@given(RANKED)
@settings(deadline=None, max_examples=25)
def test_a_ranking_becomes_all_its_pairs(record):
    rows = list(iter_record_rows(record, "trl_preference"))
    pairs = {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows}
    assert pairs == {(record.responses[i], record.responses[j]) for i, j in record.pairs()}
    assert all(row.get("strength") == record.strength for row in rows)


def test_every_writer_has_a_test():
    assert {*RECORDS, "trl_preference"} == set(WRITERS)


CALLING = Demonstration((USER, Message("assistant", "", (CALL,)), Message("tool", "2"), Message("assistant", "Two.")))
OFFERING = Demonstration((Message("system", "", tools=TOOLS), *CALLING.messages))


@pytest.mark.parametrize("name", ["messages", "sharegpt", "zhenlong"])
@pytest.mark.parametrize("record", [CALLING, OFFERING])
def test_tool_calls_results_and_signatures_are_preserved(name, record, write):
    assert read(write(*iter_record_rows(record, name)), Demonstration) == [record]
    assert from_json(json.loads(json.dumps(to_json(record)))) == record


THOUGHT = Demonstration((USER, Message("assistant", "Let me see.", (CALL,)), Message("tool", "2")))
EDITED = Ranking((USER,), ("a", "b"), (1, 2), edited=True)


@pytest.mark.parametrize(
    ("name", "record", "problem"),
    [
        ("alpaca", CALLING, "alpaca holds alternating user and assistant turns without calls"),
        ("flan", Demonstration((Message("system", "Hm."), *DEMONSTRATION.messages)), "flan cannot hold the record"),
        ("flan", CALLING, "flan cannot hold the record's messages"),
        ("sharegpt", THOUGHT, "cannot hold text beside a function call"),
        ("trl_preference", EDITED, "cannot hold the record's edited"),
        ("messages", Demonstration(DEMONSTRATION.messages, meta={"label": True}), "would be read as rated messages"),
        ("messages", Demonstration(DEMONSTRATION.messages, meta={"a": {"b": 1}}), "cannot hold the record's meta"),
        ("messages", Demonstration(DEMONSTRATION.messages, "web"), "cannot hold the record's source"),
    ],
)
def test_a_record_that_a_format_cannot_represent_is_an_error(name, record, problem):
    with pytest.raises(ValueError, match=problem):
        list(iter_record_rows(record, name))


@pytest.fixture
def write(tmp_path):
    def rows(*given, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in given))
        return str(path)

    return rows


@pytest.mark.parametrize(
    ("row", "to", "kind", "records"),
    [
        (FORMATS["explicit preference"][0], "trl_unpaired", Rating, [RATING, Rating((USER,), "Blue.", False)]),
        (FORMATS["explicit preference"][0], "messages", Demonstration, [DEMONSTRATION]),
        (FORMATS["transcript"][0], "trl_preference", Ranking, [FORMATS["transcript"][1]]),
        (FORMATS["alpaca"][0], "sharegpt", Demonstration, [DEMONSTRATION]),
        (FORMATS["sharegpt"][0], "alpaca", Demonstration, [DEMONSTRATION]),
        (FORMATS["scored completions"][0], "kwise", Ranking, [FORMATS["scored completions"][1]]),
        (FORMATS["messages"][0], "text", Document, [Document("Name a colour.\n\nRed.")]),
    ],
)
def test_a_file_is_converted_to_another_format(write, tmp_path, capsys, row, to, kind, records):
    path = convert(write(row), to=to, output=str(tmp_path / "out.jsonl"))
    assert read(str(path), kind) == records
    assert f"{len(records)} rows of {to}" in capsys.readouterr().out


def test_an_unrepresentable_row_stops_the_conversion_and_leaves_no_file(write, tmp_path, capsys):
    path = write({"messages": CHAT}, {"messages": to_json(CALLING)["messages"]})
    with pytest.raises(UserError, match=r"rows.jsonl, line 2: alpaca holds alternating"):
        convert(path, to="alpaca", output=str(tmp_path / "out.jsonl"))
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.jsonl"]
    convert(path, to="alpaca", output=str(tmp_path / "out.jsonl"), skip_bad_rows=True)
    assert "line 2: alpaca holds" in capsys.readouterr().out
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"to": "vicuna"}, "--to vicuna: unknown format; expected one of zhenlong, messages"),
        ({"to": "messages", "output": "x.json"}, "expected a name that ends in .jsonl"),
        ({"to": "messages", "kind": "rating"}, "messages rows are Demonstrations"),
        ({"to": "zhenlong", "kind": "poem"}, "--kind poem: unknown"),
        ({"to": "trl_unpaired"}, r"messages \(messages\) rows cannot be read as Rating"),
    ],
)
def test_the_error_for_an_impossible_conversion_says_why(write, tmp_path, options, problem):
    given = {"output": str(tmp_path / "out.jsonl"), **options}
    with pytest.raises(UserError, match=problem):
        convert(write({"messages": CHAT}), **given)


def test_validate_reports_every_problem_and_exits_with_2(write, tmp_path, capsys):
    good, bad = FORMATS["explicit preference"][0], {"prompt": "p", "chosen": "a", "rejected": "a"}
    path = write(good, bad, good, {"prompt": "p"}, {"text": "hm"}, name="pairs.jsonl")
    chats = write({"messages": CHAT}, name="chats.jsonl")
    with pytest.raises(SystemExit) as stop:
        main(["data", "validate", f"{path},{chats}"])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert [line.split(": ")[0].rsplit(", ", 1)[-1] for line in said.out.splitlines()[:3]] == [
        "line 2",
        "line 4",
        "line 5",
    ]
    assert "2 rankings in 5 rows, 3 problems" in said.out
    assert "1 demonstration in 1 rows, 0 problems" in said.out
    assert said.out.splitlines()[-1] == "3 problems in the data; fix them, or use --skip_bad_rows"
    assert said.err == ""


@pytest.mark.parametrize(
    ("row", "problems"),
    [
        (
            {"prompt": "p", "chosen": "", "rejected": "b", "strength": 9},
            ["responses: expected some", "strength: expected 1"],
        ),
        (
            {"messages": [*CHAT, {"role": "robot", "content": "x"}, {"role": "assistant", "content": 5}]},
            [f"messages[{len(CHAT)}].role: expected", f"messages[{len(CHAT) + 1}].content: expected"],
        ),
    ],
)
def test_all_problems_of_a_row_are_reported_in_its_line(write, row, problems):
    (found,) = validate(write(row)).problems
    line = found.problem
    assert all(problem in line for problem in problems)
    assert line.count("; ") >= 1


def test_the_function_returns_what_it_found_and_prints_nothing(write, capsys):
    found = validate(f"{write({'messages': CHAT})}*2,{write(FORMATS['alpaca'][0], name='b.jsonl')}*1")
    assert [dict(one.records) for one in found.sources] == [{"demonstration": 1}, {"demonstration": 1}]
    assert (found.problems, found.exit_code) == ([], 0)
    assert found.as_text().count("0 problems") == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        ('{"text": "a"}\n{"text": \n', "a.jsonl", "a.jsonl, line 2: not valid JSON"),
        ("", "a.jsonl", "the file is empty"),
        ('[{"text": "a"}', "a.json", "not valid JSON"),
        ('{"prompt": "p", "completion": "c", "label": true}\n' * 2, "a.jsonl", "label: every response is desirable"),
        ("x", "a.doc", "unknown extension '.doc'"),
        ('{"foo": 1}\n', "a.jsonl", "no known row format has the fields foo"),
    ],
)
def test_problems_of_a_whole_file_are_reported(tmp_path, content, name, problem):
    (tmp_path / name).write_text(content)
    found = validate(str(tmp_path / name))
    assert (len(found.problems), found.exit_code) == (1, 2)
    assert problem in found.as_text()


def test_validating_as_an_impossible_kind_is_a_problem(write):
    (found,) = validate(write({"messages": CHAT}), kind="rating").problems
    assert "rows cannot be read as Rating" in found.problem


def test_transcripts_and_preference_rows_give_the_same_rankings(write, tmp_path):
    row = {"chosen": f"{DIALOGUE} Red.", "rejected": f"{DIALOGUE} Blue."}
    path = convert(write(row), to="zhenlong", output=str(tmp_path / "own.jsonl"))
    assert read(str(path), Ranking) == read(write(row), Ranking) != [RANKING]
