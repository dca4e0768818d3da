"""A server that drips, floods, nests, echoes the key or answers oddly costs its own requests, and nothing more."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.test_openai_endpoint import SECRET, Time, chat, sampler

from zhenlong.inference import bounded_http
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.openai_endpoint import OpenAIEndpoint
from zhenlong.inference.openai_responses import parse_chat_completions, parse_completions, parse_continuation_score
from zhenlong.inference.requests import GenerateRequest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"


class Dripping:
    """A server that sends `first`, then a byte at a time for as long as somebody reads."""

    def __init__(self, first: bytes) -> None:
        self.first, self.stopped = first, threading.Event()
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.drip, args=(connection,), daemon=True).start()

    def drip(self, connection: socket.socket) -> None:
        try:
            connection.sendall(self.first)
            while not self.stopped.wait(0.02):
                connection.sendall(b"x")
        except OSError:
            return

    def close(self) -> None:
        self.stopped.set()
        self.server.close()


@pytest.fixture(params=[HEAD + b"{", b"HTTP/1.1 200 OK\r\nX-Long: "], ids=["body", "headers"])
def dripping(request: pytest.FixtureRequest) -> Iterator[Dripping]:
    server = Dripping(request.param)
    yield server
    server.close()


def test_the_time_limit_is_that_of_the_whole_response(dripping: Dripping) -> None:
    address = f"openai:m@http://127.0.0.1:{dripping.server.getsockname()[1]}/v1?timeout=0.3&max_retries=1"
    endpoint = OpenAIEndpoint(address, clock=Time().clock)
    endpoint._http.has_connected = True
    (found,) = chat(endpoint)
    assert found.failed == "no answer in time (2 tries)"


def test_a_response_beyond_the_size_limit_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "MAX_RESPONSE_BYTES", 1 << 20)
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, stream=Endless())

    (found,) = chat(sampler(handler))
    assert found.failed == "the response exceeds 1 MiB"
    assert len(asked) == 1


class Endless(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 100_000


def test_json_nested_too_deeply_is_a_failed_request() -> None:
    (found,) = chat(sampler(lambda request: httpx.Response(200, content=b"[" * 100_000)))
    assert "nested too deeply" in found.failed
    (found,) = chat(sampler(lambda request: httpx.Response(400, content=b"[" * 100_000)))
    assert found.failed.startswith("HTTP 400")


@pytest.mark.parametrize("escaped", [SECRET, "".join(f"\\u{ord(letter):04x}" for letter in SECRET)])
def test_an_echoed_key_is_in_no_answer_cache_or_error(escaped, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    content = f'{{"choices": [{{"message": {{"content": "you sent {escaped}!"}}, "finish_reason": "stop"}}]}}'
    endpoint = sampler(lambda request: httpx.Response(200, content=content.encode()))
    (found,) = chat(endpoint)
    assert found.outputs[0].text == "you sent [key]!"
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        cache.write([("k", found)])
    assert SECRET.encode() not in b"".join(one.read_bytes() for one in tmp_path.iterdir())
    endpoint = sampler(lambda request: httpx.Response(400, content=f'{{"error": "bad {escaped}"}}'.encode()))
    assert SECRET not in chat(endpoint)[0].failed


def test_a_key_that_is_a_word_stays_in_answers(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    content = b'{"choices": [{"message": {"content": "the set is EMPTY"}}]}'
    assert chat(sampler(lambda request: httpx.Response(200, content=content)))[0].outputs[0].text == "the set is EMPTY"


def one_choice(message, **more):
    return {"choices": [{"message": message, **more}]}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (one_choice({"content": None}), ""),
        (one_choice({"content": [{"type": "text", "text": "a"}, {"text": None}, "b", 3]}), "ab"),
        (one_choice({"content": "half \ud83d"}), "half \ufffd"),
        (one_choice({"content": "x"}) | {"usage": {"prompt_tokens": -1, "completion_tokens": "many"}}, "x"),
        (one_choice({"content": "x"}) | {"usage": []}, "x"),
        (one_choice({"content": "x"}, logprobs={"content": None}), "x"),
    ],
)
def test_odd_but_valid_responses_are_read(payload, text) -> None:
    (found,) = chat(sampler(lambda request: httpx.Response(200, content=json.dumps(payload).encode())))
    assert found.outputs[0].text == text


ODD = [
    {"choices": []}, {"choices": None}, {"choices": [None]}, {}, [], None, 3, one_choice(None),
    one_choice({"content": 3}),
    one_choice({"content": "x"}, logprobs={"content": [3]}),
    one_choice({"content": "x"}, logprobs={"content": [{"logprob": float("nan")}]}),
    one_choice({"content": "x"}, logprobs={"content": [{"logprob": "9" * 400}]}),
    one_choice({"content": "x"}, index={}) | {"extra": 1},
    {"choices": [{"index": "a", "message": {"content": "x"}}, {"index": 1, "message": {"content": "x"}}]},
]  # fmt: skip


def test_odd_responses_cost_their_request_only() -> None:
    replies = [json.dumps(one).encode() for one in ODD] + [b'{"choices": [{"message": {"content": "good"}}]}']

    def handler(request: httpx.Request) -> httpx.Response:
        number = int(json.loads(request.content)["messages"][0]["content"])
        return httpx.Response(200, content=replies[number])

    endpoint = sampler(handler, max_retries=0)
    asked = [GenerateRequest(str(number), max_tokens=5) for number in range(len(replies))]
    found = dict(pair for batch in endpoint.generate(asked) for pair in batch)
    assert found[len(ODD)].outputs[0].text == "good"
    assert all(found[number].failed or found[number].outputs for number in range(len(ODD)))
    assert sum(bool(one.failed) for one in found.values()) >= len(ODD) - 2


PAYLOADS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=["L", "Cs"])),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "logprobs", "text", "tokens", "token_logprobs", "index",
                         "usage", "top_logprobs", "token", "logprob", "finish_reason"]), one, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(PAYLOADS)
def test_whatever_the_payload_a_request_has_a_result_that_a_file_can_hold(payload) -> None:
    body = {"choices": [{"message": payload, "text": payload, "logprobs": payload}]}
    for one in (payload, body):
        response = httpx.Response(200, content=json.dumps(one).encode())
        (found,) = chat(sampler(lambda request, response=response: response, max_retries=0))
        assert found.failed or all(output.text.encode() is not None for output in found.outputs)
    for parse in (parse_chat_completions, parse_completions, lambda one: parse_continuation_score(one, "a b", " b")):
        try:
            parse(body)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
            continue
