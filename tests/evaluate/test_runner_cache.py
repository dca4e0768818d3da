"""The cache and what drives the requests: nothing is asked twice, nothing that was answered is lost."""

import sqlite3

import pytest
from stand_in import Killed, StandIn

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.request import Answer, Generate, Score, ScoreText, answer_from_json, answer_json, key_of
from zhenlong.evaluate.outcome import Cost, Output
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.evaluate.runner.drive import answered
from zhenlong.records import Message

REQUESTS = [Generate(f"prompt {n}") for n in range(9)]


def test_an_answer_comes_back_as_it_was():
    output = Output("a\u2028b", -1.5, 2, True, ({"a": -0.1, "b": -2.0},), ("later",))
    answer = Answer((output, Output("")), (-1.0, float("-inf")), (1, 2), "prompt", "", Cost(0.5, 3, 4, 5.0, 6))
    assert answer_from_json(answer_json(answer)) == answer


def test_the_key_tells_apart_all_that_changes_an_answer():
    asked = [
        Generate("a"), Generate("b"), Generate("a", n=2), Generate("a", seed=1), Generate("a", stop=("x",)),
        Generate("a", temperature=0.5), Generate("a", max_tokens=5), Generate((Message("user", "a"),)),
        Generate((Message("system", "a"),)), Score("a", ("b",)), Score("a", ("b", "c")), ScoreText("a"),
    ]  # fmt: skip
    assert len({key_of("model", one) for one in asked} | {key_of("other", one) for one in asked}) == 2 * len(asked)
    assert key_of("model", Generate("a")) == key_of("model", Generate("a"))


def test_equal_requests_are_asked_once_and_a_second_run_asks_nothing(tmp_path):
    model = StandIn(lambda request: request.prompt)
    with Cache(tmp_path / "cache.sqlite") as cache:
        found = answered([*REQUESTS, *reversed(REQUESTS)], model, cache)
    assert [one.outputs[0].text for one in found] == [one.prompt for one in (*REQUESTS, *reversed(REQUESTS))]
    assert model.asked == REQUESTS
    again = StandIn(lambda request: "otherwise")
    with Cache(tmp_path / "cache.sqlite") as cache:
        assert answered(REQUESTS, again, cache) == found[:9]
    assert not again.asked


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_after_a_kill_what_was_finished_is_not_asked_again(tmp_path, batches):
    dying = StandIn(dies_at=batches)
    with pytest.raises(Killed):
        answered(REQUESTS, dying, Cache(tmp_path / "cache.sqlite"))  # never closed, as after a kill
    resumed = StandIn()
    with Cache(tmp_path / "cache.sqlite") as cache:
        found = answered(REQUESTS, resumed, cache)
    assert len(dying.asked) == 2 * batches
    assert dying.asked + resumed.asked == REQUESTS
    assert len(found) == 9


def test_a_failed_answer_is_given_and_asked_again_next_time(tmp_path):
    with Cache(tmp_path / "cache.sqlite") as cache:
        failing = StandIn(lambda request: "FAIL timed out" if request.prompt == "prompt 1" else "yes")
        found = answered(REQUESTS, failing, cache)
        assert [one.failed for one in found].count("timed out") == 1
        later = StandIn()
        assert not any(one.failed for one in answered(REQUESTS, later, cache))
    assert later.asked == [REQUESTS[1]]


@pytest.mark.parametrize("damage", [b"no data base at all", b""])
def test_a_damaged_file_is_put_aside_said_once_and_begun_anew(tmp_path, capsys, damage):
    path = tmp_path / "cache.sqlite"
    with Cache(path) as cache:
        answered(REQUESTS, StandIn(), cache)
    data = path.read_bytes()
    path.write_bytes(damage or data[:100] + b"\xff" * 4000 + data[4100:])
    model = StandIn()
    with Cache(path) as cache:
        answered(REQUESTS, model, cache)
        answered(REQUESTS, model, cache)
    assert model.asked == REQUESTS
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "damaged" in lines[0]
    assert (tmp_path / "cache.sqlite.damaged-1").exists()
    with Cache(path) as cache:
        assert len(answered(REQUESTS, StandIn(dies_at=0), cache)) == 9


def test_an_entry_that_cannot_be_read_is_asked_again(tmp_path):
    path = tmp_path / "cache.sqlite"
    with Cache(path) as cache:
        answered(REQUESTS, StandIn(), cache)
    with sqlite3.connect(path) as base:
        base.execute("UPDATE answers SET answer = '{\"torn' WHERE key = ?", (key_of("stand-in", REQUESTS[4]),))
    model = StandIn()
    with Cache(path) as cache:
        answered(REQUESTS, model, cache)
    assert model.asked == [REQUESTS[4]]


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"one")
    with Cache(tmp_path / "cache.sqlite") as cache:
        first = cache.file_hash(file)
        file.write_bytes(b"two!")
        assert cache.file_hash(file) != first
        file.write_bytes(b"one")
        assert cache.file_hash(file) == first


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--cache"):
        Cache(tmp_path / "file" / "cache.sqlite")
