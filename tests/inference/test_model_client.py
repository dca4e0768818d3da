"""Request cache and execution: no request is computed twice, no finished result is lost."""

import sqlite3

import pytest
from scripted_backend import Killed, ScriptedBackend

from zhenlong.errors import UserError
from zhenlong.inference.cache import IN_MEMORY, RequestCache
from zhenlong.inference.model_client import ModelClient, RequestLedger
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


def test_a_result_survives_a_round_trip_through_the_cache():
    output = GeneratedOutput("a\u2028b", -1.5, 2, True, ({"a": -0.1, "b": -2.0},), ("later",))
    answer = RequestResult(
        (output, GeneratedOutput("")), (-1.0, float("-inf")), (1, 2), "prompt", "", RequestCost(0.5, 3, 4, 5.0, 6)
    )
    assert result_from_json(result_to_json(answer)) == answer


def test_the_key_depends_on_everything_that_changes_a_result():
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


def test_equal_requests_run_once_and_a_second_run_computes_nothing(tmp_path):
    model = ScriptedBackend(lambda request: request.prompt)
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        found = ModelClient(model, cache).run([*REQUESTS, *reversed(REQUESTS)])
    assert [one.outputs[0].text for one in found] == [one.prompt for one in (*REQUESTS, *reversed(REQUESTS))]
    assert model.requests == REQUESTS
    again = ScriptedBackend(lambda request: "otherwise")
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        assert ModelClient(again, cache).run(REQUESTS) == found[:9]
    assert not again.requests


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_after_a_kill_finished_requests_do_not_run_again(tmp_path, batches):
    dying = ScriptedBackend(dies_at=batches)
    with pytest.raises(Killed):
        ModelClient(dying, RequestCache(tmp_path / "cache.sqlite")).run(REQUESTS)  # never closed, as after a kill
    resumed = ScriptedBackend()
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        found = ModelClient(resumed, cache).run(REQUESTS)
    assert len(dying.requests) == 2 * batches
    assert dying.requests + resumed.requests == REQUESTS
    assert len(found) == 9


def test_a_failed_result_is_returned_and_retried_next_time(tmp_path):
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        failing = ScriptedBackend(lambda request: "FAIL timed out" if request.prompt == "prompt 1" else "yes")
        found = ModelClient(failing, cache).run(REQUESTS)
        assert [one.failed for one in found].count("timed out") == 1
        later = ScriptedBackend()
        assert not any(one.failed for one in ModelClient(later, cache).run(REQUESTS))
    assert later.requests == [REQUESTS[1]]


@pytest.mark.parametrize("damage", [b"no data base at all", b""])
def test_a_damaged_file_is_moved_aside_with_one_warning_and_replaced(tmp_path, capsys, damage):
    path = tmp_path / "cache.sqlite"
    with RequestCache(path) as cache:
        ModelClient(ScriptedBackend(), cache).run(REQUESTS)
    data = path.read_bytes()
    path.write_bytes(damage or data[:100] + b"\xff" * 4000 + data[4100:])
    model = ScriptedBackend()
    with RequestCache(path) as cache:
        ModelClient(model, cache).run(REQUESTS)
        ModelClient(model, cache).run(REQUESTS)
    assert model.requests == REQUESTS
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "damaged" in lines[0]
    assert (tmp_path / "cache.sqlite.damaged-1").exists()
    with RequestCache(path) as cache:
        assert len(ModelClient(ScriptedBackend(dies_at=0), cache).run(REQUESTS)) == 9


def test_an_unreadable_entry_is_recomputed(tmp_path):
    path = tmp_path / "cache.sqlite"
    with RequestCache(path) as cache:
        ModelClient(ScriptedBackend(), cache).run(REQUESTS)
    with sqlite3.connect(path) as base:
        base.execute("UPDATE answers SET answer = '{\"torn' WHERE key = ?", (cache_key("stand-in", REQUESTS[4]),))
    model = ScriptedBackend()
    with RequestCache(path) as cache:
        ModelClient(model, cache).run(REQUESTS)
    assert model.requests == [REQUESTS[4]]


def test_a_file_is_rehashed_only_if_it_changed(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"one")
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        first = cache.file_hash(file)
        file.write_bytes(b"two!")
        assert cache.file_hash(file) != first
        file.write_bytes(b"one")
        assert cache.file_hash(file) == first


def test_an_unwritable_cache_path_is_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--cache"):
        RequestCache(tmp_path / "file" / "cache.sqlite")


def test_the_ledger_tells_what_the_model_did_from_what_the_cache_knew(tmp_path):
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        first = ModelClient(ScriptedBackend(), cache)
        first.run([*REQUESTS, REQUESTS[0]])
        assert (first.ledger.requests, first.ledger.from_cache, first.ledger.failed) == (10, 1, 0)
        again = ModelClient(ScriptedBackend(), cache)
        again.run(REQUESTS)
        when = again.ledger.oldest_cached
        assert when is not None
        assert again.ledger == RequestLedger(requests=9, from_cache=9, oldest_cached=when)


def test_a_prompt_that_leaves_no_room_for_an_answer_is_not_asked():
    model = ScriptedBackend(context=5)
    client = ModelClient(model, RequestCache(IN_MEMORY))
    prompts = [(Message("user", text),) for text in ("two words", "now four words here", "two words")]
    found = client.sample_outputs(prompts, samples_per_prompt=2, max_tokens=3, temperature=1.0, seed=4)
    assert [len(outputs) for outputs in found] == [2, 0, 2]
    assert [request.seed for request in model.requests] == [4, 6]  # each prompt's own, whichever others fit
    assert [one.text for one in client(prompts, max_tokens=3)] == ["yes", "yes", "yes"]  # one token of room will do
