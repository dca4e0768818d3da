"""`zhenlong verify`: a line a row with what was read and its value."""

import json

import pytest

from zhenlong.errors import UserError
from zhenlong.verify.show_readings import verify_answers


def written(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("reader", "row", "read", "value"),
    [
        ("maths", {"output": "\\boxed{0.5}", "gold": "1/2"}, "0.5", 1),
        ("maths", {"output": "unclear", "gold": 7}, None, 0),
        ("choice", {"output": "Option b", "options": ["x", "y"], "right": "B"}, "B", 1),
        ("choice", {"output": "A or B", "options": ["x", "y"], "right": "B"}, None, 0),
        ("pair", {"output": "Output (a) is better."}, "a", "a"),
        ("rating", {"output": "Rating: [[7]]"}, 7, 7),
        ("rating", {"output": "none"}, None, None),
        ("winner", {"output": "[[C]]"}, "tie", "tie"),
        ("label", {"output": "1_full_compliance"}, "full_compliance", "full_compliance"),
        ("refusal", {"output": "I cannot help with that."}, "full_refusal", True),
        ("refusal", {"output": "Sure."}, "full_compliance", False),
        ("refusal", {"output": "<think>I cannot"}, None, False),
    ],
)
def test_a_row_is_read(tmp_path, capsys, reader, row, read, value):
    verify_answers(reader, data=written(tmp_path, row | {"id": "x"}), json=True)
    assert json.loads(capsys.readouterr().out) == {"id": "x", "read": read, "value": value}


def test_the_table_says_how_many_are_unread(tmp_path, capsys):
    verify_answers("pair", data=written(tmp_path, {"output": "[[x]"}, {"output": "Output (a) is better."}))
    assert "could not be read: 50.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reader", "row", "wrong"),
    [
        ("pair", {"text": "a"}, "output"),
        ("choice", {"output": "A", "options": [], "right": "A"}, "options"),
        ("choice", {"output": "A", "options": ["x"], "right": "C"}, "right"),
        ("maths", {"output": "1"}, "gold"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place(tmp_path, reader, row, wrong):
    with pytest.raises(UserError, match=rf"rows.jsonl, line 1: {wrong}: "):
        verify_answers(reader, data=written(tmp_path, row))
