"""Each row format gives its record, and other kinds only by the documented casts."""

import json
from dataclasses import replace

import pytest
from data.rows import BOT, CHAT, DIALOGUE, FORMATS, HUMAN, OTHER, RED, SYSTEM, USER

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.records import Demonstration, Document, Message, Ranking, Rating, Task, to_json


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write_rows


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_gives_its_record(write, name):
    row, record = FORMATS[name]
    found = read(write(row, row), type(record))
    if isinstance(record, Task) and "kind" not in row:  # its rewards may read every column
        assert [one.meta for one in found] == [
            {key: row[key] for key in row if key != "prompt" or isinstance(row[key], str)}
        ] * 2
        found = [replace(one, meta={}) for one in found]
    assert found == [record, record]


@pytest.mark.parametrize("name", FORMATS)
def test_a_record_round_trips_through_its_json(write, name):
    record = FORMATS[name][1]
    assert read(write(to_json(record)), type(record)) == [record]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("explicit preference", Demonstration((USER, BOT))),
        ("explicit preference", Task((USER,))),
        ("unpaired", Task((USER,))),
        ("messages", Task((USER,), "Red.")),
        ("messages with a system column", Document("Be brief.\n\nName a colour.\n\nRed.")),
        ("question", Demonstration((USER, BOT))),
    ],
)
def test_a_row_is_cast_to_another_kind(write, name, record):
    assert read(write(FORMATS[name][0]), type(record)) == [record]


def test_a_preference_gives_a_rating_for_each_side(write):
    row = FORMATS["implicit preference"][0]
    expected = [Rating((USER,), "Red.", True), Rating((USER,), "Blue.", False)]
    assert read(write(row), Rating) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [("alpaca", Ranking), ("text", Task), ("unpaired", Demonstration), ("problem", Rating), ("own task", Document)],
)
def test_the_error_for_an_impossible_kind_names_format_and_kind(write, name, kind):
    row, record = FORMATS[name]
    with pytest.raises(
        UserError, match=rf"{next(iter(row))}.*cannot be read as {kind.__name__}.*{type(record).__name__}"
    ):
        read(write(row), kind)


def test_worked_solutions_are_demonstrations_and_their_last_number_the_reference(write):
    path = write({"question": "Name a colour.", "answer": "3 + 4 = 7\n#### 7"})
    assert read(path, Demonstration)[0].messages[-1].content == "3 + 4 = 7\n#### 7"
    assert read(path, Task)[0].reference == "7"


def test_the_shared_prompt_ends_at_a_turn_even_if_responses_start_alike(write):
    chosen, rejected = (f"{DIALOGUE} Red, {x}." for x in ("I think", "perhaps"))
    (ranking,) = read(write({"chosen": chosen, "rejected": rejected}), Ranking)
    assert ranking.responses == ("Red, I think.", "Red, perhaps.")


def test_function_calls_and_results_keep_their_roles(write):
    call = {"from": "function_call", "value": json.dumps({"name": "find", "arguments": json.dumps({"x": 1})})}
    row = {"conversations": [*HUMAN, call, {"from": "observation", "value": "{}"}, RED], "tools": '[{"name": "find"}]'}
    messages = read(write(row), Demonstration)[0].messages
    assert [m.role for m in messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert messages[2].tool_calls == ({"type": "function", "function": {"name": "find", "arguments": {"x": 1}}},)
    assert messages[0] == Message("system", "", tools=({"type": "function", "function": {"name": "find"}},))


def test_tools_and_a_system_turn_become_one_system_turn(write):
    row = {"messages": [{"role": "system", "content": "Be brief."}, *CHAT], "tools": [{"name": "find"}]}
    messages = read(write(row), Demonstration)[0].messages
    assert [m.role for m in messages] == ["system", "user", "assistant"]
    assert messages[0].content == "Be brief."
    assert [tool["function"]["name"] for tool in messages[0].tools] == ["find"]


def test_an_openai_tool_call_and_a_typed_one_are_the_same(write):
    body = {"name": "find", "arguments": {"x": 1}}
    openai = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": body}]}
    typed = {"role": "assistant", "content": [{"type": "tool_call", "value": json.dumps(body)}]}
    first, second = read(write({"messages": [CHAT[0], openai]}, {"messages": [CHAT[0], typed]}), Demonstration)
    assert first == second


def test_reasoning_becomes_a_think_block_before_the_response(write):
    parts = [{"type": "reasoning", "value": "Hm."}, {"type": "text", "value": "Red."}]
    plain = {"role": "assistant", "content": "Red.", "reasoning_content": "Hm."}
    rows = [{"messages": [CHAT[0], {"role": "assistant", "content": parts}]}, {"messages": [CHAT[0], plain]}]
    for record in read(write(*rows), Demonstration):
        assert record.messages[-1].content == "<think>\nHm.\n</think>\n\nRed."


def test_unused_plain_columns_become_meta(write):
    row = {"messages": CHAT, "id": 7, "topic": "colours", "embedding": [1, 2]}
    assert read(write(row), Demonstration)[0].meta == {"id": 7, "topic": "colours"}


def test_an_exchange_without_an_answer_is_named(write):
    with pytest.raises(UserError, match=r"conversation\[1\].output: expected text, got nothing"):
        read(write({"conversation": [{"input": "a", "output": "b"}, {"input": "c"}]}), Demonstration)


def test_null_columns_count_as_missing(write):
    row = {"prompt": "Name a colour.", "completion": None, "chosen": "Red.", "rejected": "Blue.", "label": None}
    assert read(write(row), Ranking)[0].responses == ("Red.", "Blue.")


def test_multiple_choice_rows_are_not_read_as_question_and_answer(write):
    with pytest.raises(UserError, match="no known row format"):
        read(write({"question": "?", "choices": ["a", "b"], "answer": 1}), Task)


def test_a_category_beside_a_conversation_is_not_a_rating(write):
    assert read(write({"messages": CHAT, "label": "colours"}), Demonstration)[0].meta == {"label": "colours"}


def test_a_system_turn_that_both_sides_share_belongs_to_the_prompt(write):
    system = {"role": "system", "content": "Be brief."}
    (ranking,) = read(write({"chosen": [system, *CHAT], "rejected": [system, *OTHER]}), Ranking)
    assert ranking.prompt == (SYSTEM, USER)
    assert Message("assistant", ranking.responses[0]) == BOT


def test_a_json_response_is_text_and_json_turns_are_messages(write):
    answer = '[{"name": "find"}]'
    row = {"prompt": json.dumps(CHAT[:1]), "chosen": answer, "rejected": json.dumps(CHAT[1:])}
    (ranking,) = read(write(row), Ranking)
    assert ranking.prompt == (USER,)
    assert ranking.responses == (answer, "Red.")
