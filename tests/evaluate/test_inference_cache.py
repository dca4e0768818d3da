"""The cache and what drives the requests: nothing is asked twice, nothing that was answered is lost."""

import sqlite3

import pytest
from scripted_backend import Killed, ScriptedBackend

from zhenlong.errors import UserError
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.execute import run_requests
from zhenlong.inference.requests import (
    GeneratedOutput,
    GenerateRequest,
    RequestCost,
    RequestResult,
    ScoreRequest,
    ScoreTextRequest,
    cache_key,
    result_from_json,
    result_to_json,
)
from zhenlong.records import Message

REQUESTS = [GenerateRequest(f"prompt {n}") for n in range(9)]


def test_an_answer_comes_back_as_it_was():
    output = GeneratedOutput("a\u2028b", -1.5, 2, True, ({"a": -0.1, "b": -2.0},), ("later",))
    answer = RequestResult(
        (output, GeneratedOutput("")), (-1.0, float("-inf")), (1, 2), "prompt", "", RequestCost(0.5, 3, 4, 5.0, 6)
    )
    assert result_from_json(result_to_json(answer)) == answer


def test_the_key_tells_apart_all_that_changes_an_answer():
    asked = [
        GenerateRequest("a"), GenerateRequest("b"), GenerateRequest("a", n=2), GenerateRequest("a", seed=1),
        GenerateRequest("a", stop=("x",)), GenerateRequest("a", temperature=0.5), GenerateRequest("a", max_tokens=5),
        GenerateRequest((Message("user", "a"),)), GenerateRequest((Message("system", "a"),)),
        ScoreRequest("a", ("b",)), ScoreRequest("a", ("b", "c")), ScoreTextRequest("a"),
    ]  # fmt: skip
    assert len({cache_key("model", one) for one in asked} | {cache_key("other", one) for one in asked}) == 2 * len(
        asked
    )
    assert cache_key("model", GenerateRequest("a")) == cache_key("model", GenerateRequest("a"))


def test_equal_requests_are_asked_once_and_a_second_run_asks_nothing(tmp_path):
    model = ScriptedBackend(lambda request: request.prompt)
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        found = run_requests([*REQUESTS, *reversed(REQUESTS)], model, cache)
    assert [one.outputs[0].text for one in found] == [one.prompt for one in (*REQUESTS, *reversed(REQUESTS))]
    assert model.requests == REQUESTS
    again = ScriptedBackend(lambda request: "otherwise")
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        assert run_requests(REQUESTS, again, cache) == found[:9]
    assert not again.requests


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_after_a_kill_what_was_finished_is_not_asked_again(tmp_path, batches):
    dying = ScriptedBackend(dies_at=batches)
    with pytest.raises(Killed):
        run_requests(REQUESTS, dying, RequestCache(tmp_path / "cache.sqlite"))  # never closed, as after a kill
    resumed = ScriptedBackend()
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        found = run_requests(REQUESTS, resumed, cache)
    assert len(dying.requests) == 2 * batches
    assert dying.requests + resumed.requests == REQUESTS
    assert len(found) == 9


def test_a_failed_answer_is_given_and_asked_again_next_time(tmp_path):
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        failing = ScriptedBackend(lambda request: "FAIL timed out" if request.prompt == "prompt 1" else "yes")
        found = run_requests(REQUESTS, failing, cache)
        assert [one.failed for one in found].count("timed out") == 1
        later = ScriptedBackend()
        assert not any(one.failed for one in run_requests(REQUESTS, later, cache))
    assert later.requests == [REQUESTS[1]]


@pytest.mark.parametrize("damage", [b"no data base at all", b""])
def test_a_damaged_file_is_put_aside_said_once_and_begun_anew(tmp_path, capsys, damage):
    path = tmp_path / "cache.sqlite"
    with RequestCache(path) as cache:
        run_requests(REQUESTS, ScriptedBackend(), cache)
    data = path.read_bytes()
    path.write_bytes(damage or data[:100] + b"\xff" * 4000 + data[4100:])
    model = ScriptedBackend()
    with RequestCache(path) as cache:
        run_requests(REQUESTS, model, cache)
        run_requests(REQUESTS, model, cache)
    assert model.requests == REQUESTS
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "damaged" in lines[0]
    assert (tmp_path / "cache.sqlite.damaged-1").exists()
    with RequestCache(path) as cache:
        assert len(run_requests(REQUESTS, ScriptedBackend(dies_at=0), cache)) == 9


def test_an_entry_that_cannot_be_read_is_asked_again(tmp_path):
    path = tmp_path / "cache.sqlite"
    with RequestCache(path) as cache:
        run_requests(REQUESTS, ScriptedBackend(), cache)
    with sqlite3.connect(path) as base:
        base.execute("UPDATE answers SET answer = '{\"torn' WHERE key = ?", (cache_key("stand-in", REQUESTS[4]),))
    model = ScriptedBackend()
    with RequestCache(path) as cache:
        run_requests(REQUESTS, model, cache)
    assert model.requests == [REQUESTS[4]]


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"one")
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        first = cache.file_hash(file)
        file.write_bytes(b"two!")
        assert cache.file_hash(file) != first
        file.write_bytes(b"one")
        assert cache.file_hash(file) == first


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--cache"):
        RequestCache(tmp_path / "file" / "cache.sqlite")
