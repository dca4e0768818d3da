"""Answers from the cache say how old they are, and --refresh asks again."""

import sqlite3

import pytest
from scripted_backend import ScriptedBackend

from zhenlong.evaluate.run.console import cached_note
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import ModelClient
from zhenlong.inference.requests import GenerateRequest

REQUESTS = [GenerateRequest(f"land {number}") for number in range(3)]


@pytest.fixture
def cache(tmp_path):
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        yield cache


def test_the_ledger_knows_when_the_oldest_cached_answer_was_given(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("zhenlong.inference.cache.time.time", lambda: 1000.0)
    ModelClient(ScriptedBackend(lambda request: "a"), cache).run(REQUESTS[:1])
    monkeypatch.setattr("zhenlong.inference.cache.time.time", lambda: 5000.0)
    client = ModelClient(ScriptedBackend(lambda request: "b"), cache)
    client.run(REQUESTS[1:])
    assert (client.ledger.from_cache, client.ledger.oldest_cached) == (0, None)
    client.run(REQUESTS)
    assert (client.ledger.from_cache, client.ledger.oldest_cached) == (3, 1000.0)


def test_an_endpoints_cached_answers_are_said_with_their_age():
    ledger = {"requests": 1200, "from_cache": 1100, "oldest_cached": 1000.0}
    said = cached_note("openai:m@http://localhost/v1", ledger, 1000.0 + 3 * 86400)
    assert "1,100 of 1,200 answers are from the cache, the oldest 3 days old" in said
    assert cached_note("runs/sft", ledger, 2000.0) == ""
    assert cached_note("openai:m@http://localhost/v1", {"requests": 3, "from_cache": 0}, 2000.0) == ""


def test_refresh_asks_again_what_an_earlier_client_asked_and_nothing_twice(cache):
    asked = []

    def answer(request):
        asked.append(request)
        return "x"

    ModelClient(ScriptedBackend(answer), cache).run(REQUESTS)
    fresh = ModelClient(ScriptedBackend(answer), cache, refresh=True)
    fresh.run(REQUESTS)
    fresh.run(REQUESTS)
    assert len(asked) == 6


def test_a_cache_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "cache.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
    connection.execute('INSERT INTO answers VALUES (\'k\', \'{"cost": {}, "outputs": [{"text": "old"}]}\')')
    connection.commit()
    connection.close()
    with RequestCache(path) as cache:
        assert cache.read(["k"])["k"].outputs[0].text == "old"
        assert cache.oldest_read is None
