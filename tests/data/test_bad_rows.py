"""A bad row raises an error with file, line, field and what was expected, or is skipped and listed."""

import json

import pytest
from data.rows import CHAT, DIALOGUE, FORMATS, OTHER

from zhenlong.data import BadRow, read
from zhenlong.errors import UserError
from zhenlong.records import Demonstration, Document, Ranking, Rating, Task

GOOD = {
    Demonstration: FORMATS["messages"][0],
    Ranking: FORMATS["implicit preference"][0],
    Rating: FORMATS["unpaired"][0],
    Task: FORMATS["question"][0],
    Document: FORMATS["text"][0],
}


def chat(**last):
    return {"messages": [CHAT[0], {"role": "assistant", "content": "Red."} | last]}


KWISE = {"prompt": "p", "responses": ["a", "b", "c"]}
BAD = {
    "unknown role": (Demonstration, chat(role="robot"), r"messages\[1\].role: expected one of system, user.*'robot'"),
    "no role": (Demonstration, {"messages": [{"content": "Red."}]}, r"messages\[0\]: expected role and content"),
    "unknown speaker": (
        Demonstration,
        {"messages": [{"from": "x", "value": ""}]},
        r"messages\[0\].from: expected one of",
    ),
    "no assistant": (Demonstration, {"messages": CHAT[:1]}, "messages: expected at least one assistant turn"),
    "assistant first": (
        Demonstration,
        {"messages": CHAT[1:]},
        r"messages\[0\]: expected the system's or the user's turn",
    ),
    "empty response": (
        Demonstration,
        chat(content=" "),
        "messages: expected text or a tool call in every assistant turn",
    ),
    "content of another type": (
        Demonstration,
        chat(content=3),
        r"messages\[1\].content: expected text or a list of parts",
    ),
    "a picture": (
        Demonstration,
        chat(content=[{"type": "image_url"}]),
        r"messages\[1\].content: expected parts of type text, .*'image_url'",
    ),
    "weight": (Demonstration, chat(loss_weight=0.5), r"messages\[1\].loss_weight: expected 1 on assistant turns .*0.5"),
    "turns that are no list": (Demonstration, {"messages": 3}, "messages: expected a list of turns, got int"),
    "turn that is no object": (Demonstration, {"messages": ["hi"]}, r"messages\[0\]: expected an object"),
    "a call without a name": (
        Demonstration,
        chat(tool_calls=[{"x": 1}]),
        r"messages\[1\].tool_calls: expected a function call",
    ),
    "a call with broken arguments": (
        Demonstration,
        chat(tool_calls=[{"name": "f", "arguments": "{"}]),
        r"messages\[1\].tool_calls.arguments: expected an object as JSON",
    ),
    "chosen equals rejected": (
        Ranking,
        {"chosen": CHAT, "rejected": CHAT},
        "rejected: expected it to differ from chosen",
    ),
    "nothing shared": (
        Ranking,
        {"chosen": CHAT, "rejected": OTHER[1:]},
        "rejected: expected it to start with the same turns",
    ),
    "two turns more": (
        Ranking,
        {"chosen": [*CHAT, *CHAT], "rejected": OTHER},
        r"chosen: expected one assistant turn after the prompt, got 3 turns",
    ),
    "a column of pictures": (Demonstration, {"messages": CHAT, "images": ["a.png"]}, "images: only text is read"),
    "a picture of a task": (Task, {"question": "p", "answer": "a", "image": "a.png"}, "image: only text is read"),
    "two system columns": (
        Demonstration,
        {"messages": CHAT, "system": "a", "system_prompt": "b"},
        "system, system_prompt: expected one of them, got both",
    ),
    "label": (Rating, GOOD[Rating] | {"label": "maybe"}, "label: expected true or false, got 'maybe'"),
    "empty rated response": (
        Rating,
        GOOD[Rating] | {"completion": ""},
        "response: expected some text, got an empty response",
    ),
    "empty prompt": (Rating, GOOD[Rating] | {"prompt": " "}, "prompt: expected some text, got none"),
    "a missing field": (Rating, {"prompt": "p", "label": True}, "completion: missing; expected a row of TRL unpaired"),
    "a field of no format": (
        Rating,
        {"completion": "p", "label": True},
        "prompt: missing; expected a row of TRL unpaired",
    ),
    "an answer that is a list": (Task, {"question": "?", "answer": ["a"]}, "answer: expected text, got list"),
    "empty text": (Document, {"text": ""}, "text: expected some text, got none"),
    "another format": (Demonstration, GOOD[Ranking], "the row is TRL preference, .* but .*line 1 is messages"),
    "no object": (Document, ["text"], "expected an object, got list"),
    "a score that is no number": (
        Ranking,
        KWISE | {"scores": [1, 2, "N/A"]},
        "scores, response 3: expected a number, got 'N/A'",
        KWISE | {"scores": [1, 2, 3]},
    ),
    "a score too few": (
        Ranking,
        KWISE | {"scores": [1, 2]},
        "scores: expected 3 numbers, one for each response",
        KWISE | {"scores": [1, 2, 3]},
    ),
    "ties everywhere": (
        Ranking,
        KWISE | {"scores": [1, 1, 1]},
        "ranks: expected at least one response to be preferred, got all equal",
        KWISE | {"scores": [1, 2, 3]},
    ),
    "a number of no output": (
        Ranking,
        {"input": "p", "output_1": "a", "output_2": "b", "label": 3},
        "label: expected 1 or 2, the number of the better output, got 3",
        {"input": "p", "output_1": "a", "output_2": "b", "label": 1},
    ),
    "a target that is no text": (
        Demonstration,
        {"inputs": "p", "targets": 3},
        "targets: expected text, got int",
        {"inputs": "p", "targets": "3"},
    ),
    "unknown own field": (Document, {"kind": "document", "text": "a", "colour": 1}, "the row is own document"),
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", BAD)
def test_the_error_for_a_bad_row_names_file_line_and_field(tmp_path, name):
    kind, row, problem, *good = BAD[name]
    path = write(tmp_path / "rows.jsonl", *(good or [GOOD[kind]]), row)
    with pytest.raises(UserError, match=rf"rows.jsonl, line 2: {problem}"):
        read(path, kind)


@pytest.mark.parametrize("name", BAD)
def test_only_the_bad_row_is_skipped_and_it_is_listed(tmp_path, name):
    kind, row, _, *other = BAD[name]
    (good,) = other or [GOOD[kind]]
    path = write(tmp_path / "rows.jsonl", good, row, good)
    skipped: list[BadRow] = []
    records = read(path, kind, skip_bad_rows=True, skipped=skipped)
    assert records == read(write(tmp_path / "good.jsonl", good, good), kind)
    assert [bad.location for bad in skipped] == [f"{path}, line 2"]
    assert skipped[0].problem


def test_skipping_rows_without_a_list_warns(tmp_path):
    path = write(tmp_path / "rows.jsonl", GOOD[Document], {"text": ""})
    with pytest.warns(UserWarning, match=r"1 bad rows skipped; the first: .*line 2"):
        read(path, Document, skip_bad_rows=True)


def test_a_file_with_only_bad_rows_is_an_error(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"text": ""}, {"text": " "})
    with pytest.raises(UserError, match=r"no usable rows.*line 1: text: expected some text"):
        read(path, Document, skip_bad_rows=True)


def test_the_error_for_an_unknown_format_lists_known_ones(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"foo": 1, "bar": 2})
    with pytest.raises(UserError, match=r"line 1: no known row format has the fields foo, bar; expected .*instruction"):
        read(path, Document)


def test_a_transcript_without_speakers_is_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"chosen": "Red.", "rejected": f"{DIALOGUE} Blue."})
    with pytest.raises(UserError, match=r"chosen: expected a dialogue that starts with 'Human:', got 'Red.'"):
        read(path, Ranking)


def test_an_unknown_field_of_the_native_format_is_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"kind": "document", "text": "a", "colour": 1})
    with pytest.raises(UserError, match="colour: not a field of a document"):
        read(path, Document)


def test_limit_counts_records_and_stops_reading(tmp_path):
    path = write(tmp_path / "rows.jsonl", GOOD[Document], GOOD[Document], {"text": ""})
    assert len(read(path, Document, limit=2)) == 2


def test_chosen_and_rejected_must_differ_in_a_row_of_any_preference_format(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"prompt": "p", "chosen": "Red.", "rejected": "Red."})
    with pytest.raises(UserError, match="line 1: responses: expected chosen and rejected to differ"):
        read(path, Ranking)
