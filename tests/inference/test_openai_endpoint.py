"""Models behind HTTP: what is sent, what survives a bad server, what is counted, and that no secret is ever shown."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from zhenlong.errors import UserError
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.endpoint_address import EndpointAddress, parse_endpoint
from zhenlong.inference.http_client import Clock, redact
from zhenlong.inference.model_client import load_backend
from zhenlong.inference.openai_endpoint import OpenAIEndpoint
from zhenlong.inference.options import BackendSettings
from zhenlong.inference.requests import GeneratedOutput, GenerateRequest, RequestResult, ScoreRequest, ScoreTextRequest
from zhenlong.records import Message

SECRET = "sk-verysecret0123456789"
ASKED = (Message("system", "Be brief."), Message("user", "Say hello."))


class Time:
    """A clock that waits for nobody and keeps what it was asked to wait."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)


def sampler(handler: Callable[[httpx.Request], httpx.Response], time: Time | None = None, **options) -> OpenAIEndpoint:
    options = {"concurrency": 1, "max_retries": 3} | options
    return OpenAIEndpoint(
        "openai:m@https://host.example/v1",
        transport=httpx.MockTransport(handler),
        clock=(time or Time()).clock,
        jitter=random.Random(0),
        **options,
    )


def answer(*texts: str, finish: str = "stop", **extra) -> httpx.Response:
    choices = [
        {"index": number, "message": {"role": "assistant", "content": text}, "finish_reason": finish, **extra}
        for number, text in enumerate(texts)
    ]
    return httpx.Response(200, json={"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def results(one: OpenAIEndpoint, requests) -> list[RequestResult]:
    batches = one.score(requests) if isinstance(requests[0], ScoreRequest) else one.generate(requests)
    by_place = dict(pair for batch in batches for pair in batch)
    return [by_place[place] for place in range(len(requests))]


def chat(one: OpenAIEndpoint, count: int = 1, **options) -> list[RequestResult]:
    return results(one, [GenerateRequest(ASKED, **{"max_tokens": 5} | options)] * count)


def test_names_and_addresses():
    assert parse_endpoint("openai:a/b:c@http://localhost:8000/v1/") == EndpointAddress(
        "a/b:c", "http://localhost:8000/v1"
    )
    assert parse_endpoint("openai:m@http://localhost:8000").url == "http://localhost:8000/v1"
    assert parse_endpoint("openai:m@https://h/api/openai").url == "https://h/api/openai"
    assert parse_endpoint("openai:m").url == "https://api.openai.com/v1"
    given = parse_endpoint("openai:m@http://h/v1?requests_per_minute=30&prices=2.5,10&drop_params=seed&max_retries=2")
    assert given.url == "http://h/v1"
    assert given.options == {
        "requests_per_minute": 30.0,
        "prices": (2.5, 10.0),
        "drop_params": ("seed",),
        "max_retries": 2,
    }
    assert OpenAIEndpoint("openai:m@http://h/v1?max_retries=2&drop_params=seed").settings.drop_params == ("seed",)
    with pytest.raises(UserError, match="no option speed"):
        parse_endpoint("openai:m@http://h?speed=1")
    with pytest.raises(UserError, match="prices=2: expected the price"):
        parse_endpoint("openai:m@http://h?prices=2")
    for wrong in ("m@http://h", "openai:m@h:80", "openai:@http://h", "openai:m@http://user:pw@h"):
        with pytest.raises(UserError) as error:
            parse_endpoint(wrong)
        assert "pw" not in str(error.value)


def test_the_request_says_what_was_asked_and_the_reply_what_was_answered():
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, json.loads(request.content)))
        top = [{"token": "Hi", "logprob": -0.25}, {"token": "No", "logprob": float("-1e30")}]
        return answer(
            "Hi", finish="length", logprobs={"content": [{"token": "Hi", "logprob": -0.25, "top_logprobs": top}]}
        )

    found = chat(sampler(handler), temperature=0.5, top_p=0.9, stop=("x",), seed=4, top_log_probs=2)
    assert found[0].outputs == (GeneratedOutput("Hi", -0.25, 3, True, ({"Hi": -0.25, "No": -9999.0},)),)
    path, body = seen[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}],
        "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "stop": ["x"], "seed": 4,
        "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip


def test_texts_are_a_users_turn_and_conversations_are_themselves():
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return answer(*["yes"] * seen[-1].get("n", 1))

    found = results(sampler(handler), [GenerateRequest("Is it?", max_tokens=7, n=2), GenerateRequest(ASKED)])
    assert [output.text for output in found[0].outputs] == ["yes", "yes"]
    assert seen[0]["messages"] == [{"role": "user", "content": "Is it?"}]
    assert [one["role"] for one in seen[1]["messages"]] == ["system", "user"]


def test_template_arguments_are_sent_and_part_of_the_fingerprint(tmp_path):
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return answer("x")

    plain, silent = sampler(handler), sampler(handler, chat_template_kwargs={"enable_thinking": False})
    chat(plain), chat(silent)
    assert [body.get("chat_template_kwargs") for body in bodies] == [None, {"enable_thinking": False}]
    assert plain.fingerprint != silent.fingerprint
    given = parse_endpoint("openai:m@http://h/v1?chat_template_kwargs=enable_thinking=false").options
    assert given == {"chat_template_kwargs": {"enable_thinking": False}}
    settings = BackendSettings("auto?enable_thinking=false")
    with RequestCache(tmp_path / "cache.sqlite") as cache:
        backend = load_backend("openai:m@http://h/v1", cache, name="m", settings=settings)
    assert backend.fingerprint == OpenAIEndpoint("openai:m@http://h/v1", **given).fingerprint


def test_what_changes_an_answer_is_in_the_fingerprint():
    names = {sampler(echo, **options).fingerprint for options in ({}, {"chat": False}, {"drop_params": ("seed",)})}
    assert len(names) == 3
    assert sampler(echo, max_retries=9, timeout=5.0).fingerprint == sampler(echo).fingerprint


def test_completions_have_their_own_path_and_log_probabilities():
    def handler(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert request.url.path == "/v1/completions"
        assert body["prompt"] == "1 + 1 ="
        logs = {"tokens": [" ", "2"], "token_logprobs": [-0.5, -0.25], "top_logprobs": [{" ": -0.5}, {"2": -0.25}]}
        return httpx.Response(200, json={"choices": [{"text": " 2", "logprobs": logs, "finish_reason": "stop"}]})

    one = sampler(handler, chat=False)
    (found,) = results(one, [GenerateRequest("1 + 1 =", max_tokens=2, top_log_probs=1)])
    assert found.outputs == (GeneratedOutput(" 2", -0.75, 2, False, ({" ": -0.5}, {"2": -0.25})),)


@pytest.mark.parametrize(
    "fault",
    [
        httpx.Response(429, json={"error": {"message": "slow down"}}),
        httpx.Response(503, text="busy"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"choices": []}),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"choices": [{"message": {"content": 7}}]}),
        httpx.Response(200, json={"error": {"message": "upstream fell over"}}),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("peer closed"),
        httpx.ReadError("reset"),
    ],
)
def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_a_failure_and_no_answer(fault):
    def respond(faults: int):
        left = [faults]

        def handler(request: httpx.Request) -> httpx.Response:
            if left[0] == 0:
                return answer("fine")
            left[0] -= 1
            if isinstance(fault, Exception):
                raise fault
            return fault

        return handler

    time = Time()
    patient = sampler(respond(3), time)
    assert chat(patient)[0].outputs[0].text == "fine"
    assert patient.usage()["retries"] == len(time.waits) == 3
    assert patient.usage()["failed"] == 0

    beaten = sampler(respond(4), Time())
    found = chat(beaten, 2)
    assert "4 tries" in found[0].failed
    assert not found[0].outputs
    assert found[1].outputs[0].text == "fine"  # the next question is asked all the same
    assert beaten.usage()["failed"] == 1


def test_waits_double_are_jittered_and_obey_the_server():
    time = Time()
    chat(sampler(lambda _: httpx.Response(500), time, max_retries=8))
    assert all(0.5 * full <= wait <= full for wait, full in zip(time.waits, [1, 2, 4, 8, 16, 32, 60, 60], strict=True))

    time = Time()
    responses = iter([httpx.Response(429, headers={"retry-after": "17"}), answer("fine")])
    chat(sampler(lambda _: next(responses), time))
    assert time.waits == [17.0]

    time = Time()
    responses = iter([httpx.Response(429, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), answer("fine")])
    chat(sampler(lambda _: next(responses), time))
    assert time.waits == [0.0]


def test_requests_are_spaced_by_the_rate_limit():
    time = Time()
    chat(sampler(lambda _: answer("x"), time, requests_per_minute=30), 4)
    assert time.now == pytest.approx(6.0)  # the first at once, then one in two seconds


def test_the_ledger_counts_tokens_and_money_and_what_was_not_metered():
    responses = iter([answer("a"), httpx.Response(200, json={"choices": [{"message": {"content": "b"}}]})])
    one = sampler(lambda _: next(responses), prices=(2.0, 10.0))
    chat(one, 2)
    assert one.usage() == {
        "requests": 2, "retries": 0, "failed": 0, "prompt_tokens": 7, "generated_tokens": 3, "missing_usage": 1,
        "cost": pytest.approx((7 * 2 + 3 * 10) / 1e6),
    }  # fmt: skip
    assert sampler(lambda _: answer("a")).usage()["cost"] is None


@pytest.mark.parametrize(
    ("status", "says"), [(401, "denied"), (403, "denied"), (404, "not found"), (402, "credit"), (301, "moved")]
)
def test_what_no_retry_mends_is_one_clear_line(monkeypatch, status, says):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        return httpx.Response(status, json={"error": {"message": f"bad key {SECRET}, the model m does not exist"}})

    with pytest.raises(UserError, match=says) as error:
        chat(sampler(handler))
    assert SECRET not in str(error.value)
    assert "host.example" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(calls) == 1


def test_a_spent_account_is_told_from_a_passing_limit():
    spent = httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "no more"}})
    with pytest.raises(UserError, match="credit"):
        chat(sampler(lambda _: spent))


def test_a_server_that_never_answered_is_an_error_and_one_that_went_away_a_failure():
    def nobody(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(UserError, match="check the URL"):
        chat(sampler(nobody))

    first = [True]

    def once(request: httpx.Request) -> httpx.Response:
        if first.pop() if first else False:
            return answer("here")
        raise httpx.ConnectError("refused")

    found = chat(sampler(once), 2)
    assert found[0].outputs[0].text == "here"
    assert "cannot connect" in found[1].failed


def test_no_failure_repeats_a_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY_HOST_EXAMPLE", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", "other")

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        return httpx.Response(400, text=f"cannot read Authorization: {request.headers['authorization']}")

    one = sampler(handler)
    reason = chat(one)[0].failed
    assert "HTTP 400" in reason
    assert SECRET not in reason
    assert SECRET not in repr(vars(one))
    assert redact("Incorrect key: sk-proj-abcd****wxyz.", {}) == "Incorrect key: [key]"


def test_the_general_key_does_not_travel_unencrypted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    sent = {}

    def handler(request: httpx.Request) -> httpx.Response:
        sent[request.url.host] = "authorization" in request.headers
        return answer("x")

    for url in ("http://far.example/v1", "http://localhost:8000/v1", "https://far2.example/v1"):
        one = OpenAIEndpoint(f"openai:m@{url}", transport=httpx.MockTransport(handler))
        chat(one)
    assert sent == {"far.example": False, "localhost": True, "far2.example": True}
    with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
        OpenAIEndpoint("openai:m@https://h", api_key_env="NO_SUCH_KEY")


def test_n_answers_come_also_from_a_server_that_gives_one_at_a_time():
    seeds = []

    def handler(request: httpx.Request) -> httpx.Response:
        seeds.append(json.loads(request.content)["seed"])
        return answer(f"answer {seeds[-1]}")

    found = chat(sampler(handler), n=3, seed=10)
    assert [reply.text for reply in found[0].outputs] == ["answer 10", "answer 11", "answer 12"]


def test_all_answers_of_one_response_are_taken_in_the_order_of_their_index():
    response = answer("b", "a")
    payload = response.json()
    payload["choices"][0]["index"], payload["choices"][1]["index"] = 1, 0
    found = chat(sampler(lambda _: httpx.Response(200, json=payload)), n=2)
    assert [reply.text for reply in found[0].outputs] == ["a", "b"]
    assert found[0].outputs[0].num_tokens is None  # the server counted both together


def test_answers_keep_their_order_when_they_arrive_in_another():
    def handler(request: httpx.Request) -> httpx.Response:
        return answer(json.loads(request.content)["messages"][0]["content"])

    asked = [GenerateRequest((Message("user", f"question {number}"),)) for number in range(20)]
    found = results(sampler(handler, concurrency=4), asked)
    assert [one.outputs[0].text for one in found] == [f"question {number}" for number in range(20)]


def test_a_newer_model_is_asked_by_the_newer_name_of_the_limit():
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        if "max_tokens" in bodies[-1]:
            error = {"code": "unsupported_parameter", "param": "max_tokens", "message": "use max_completion_tokens"}
            return httpx.Response(400, json={"error": error})
        return answer("x")

    assert chat(sampler(handler), 2)[1].outputs[0].text == "x"
    assert ["max_tokens" in body for body in bodies] == [True, False, False]
    assert bodies[1]["max_completion_tokens"] == 5


def test_a_parameter_that_the_model_does_not_take_is_never_dropped_silently():
    error = {"code": "unsupported_value", "param": "temperature", "message": "only 1 is supported"}

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": error}) if b"temperature" in request.content else answer("x")

    with pytest.raises(UserError, match="drop_params=temperature"):
        chat(sampler(handler))
    assert chat(sampler(handler, drop_params=("temperature",)))[0].outputs[0].text == "x"


def echo(request: httpx.Request, start: str = "<s>") -> httpx.Response:
    """A server with one token a character, which begins every prompt with a token of its own."""
    body = json.loads(request.content)
    assert body["echo"]
    assert body["max_tokens"] == 1
    tokens = [start, *body["prompt"], "!"]
    logs = {"tokens": tokens, "token_logprobs": [None, *(-float(place) for place in range(1, len(tokens)))]}
    usage = {"prompt_tokens": len(tokens) - 1, "completion_tokens": 1}
    return httpx.Response(200, json={"choices": [{"text": body["prompt"] + "!", "logprobs": logs}], "usage": usage})


def test_a_continuation_is_scored_by_its_own_tokens_alone():
    found = results(sampler(echo), [ScoreRequest("abc", ("de", "d")), ScoreRequest("", ("ab",))])
    assert [one.log_probs for one in found] == [(-(4.0 + 5.0), -4.0), (-(1.0 + 2.0),)]
    assert [one.num_tokens for one in found] == [(2, 1), (2,)]


def test_part_of_a_character_is_followed_by_its_bytes():
    def handler(request: httpx.Request) -> httpx.Response:
        tokens, values = ["a", "bytes:\\xc3", "bytes:\\xa9", "."], [None, -1.0, -2.0, -4.0]
        logs = {"tokens": tokens, "token_logprobs": values}
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        return httpx.Response(200, json={"choices": [{"text": "", "logprobs": logs}], "usage": usage})

    one = sampler(handler)
    one._supports_scoring = True
    (found,) = results(one, [ScoreRequest("a", ("é",))])
    assert (found.log_probs, found.num_tokens) == ((-3.0,), (2,))


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(404, text="no such path"),
        httpx.Response(400, json={"error": {"message": "echo is not supported"}}),
        httpx.Response(200, json={"choices": [{"text": " five", "logprobs": None}]}),
        httpx.Response(
            200,
            json={
                "choices": [{"text": " five", "logprobs": {"tokens": [" five"], "token_logprobs": [-1.0]}}],
                "usage": {"prompt_tokens": 4, "completion_tokens": 1},
            },
        ),
    ],
)
def test_a_server_that_cannot_score_is_found_out_and_said(response):
    one = sampler(lambda _: response)
    assert not one.supports_scoring()
    with pytest.raises(UserError, match="multiple_choice_joint"):
        results(one, [ScoreRequest("a", ("b",))])
    with pytest.raises(UserError, match="local model"):
        list(one.score([ScoreTextRequest("a")]))


class Flaky(BaseHTTPRequestHandler):
    """A real server that hangs up on the first request and answers half of its JSON to the second."""

    calls = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).calls += 1
        if self.calls == 1:
            self.close_connection = True
            return
        whole = answer("fine").content
        text = whole[: len(whole) // 2] if self.calls == 2 else whole
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def test_a_server_that_hangs_up_and_answers_half_is_survived():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        one = OpenAIEndpoint(f"openai:m@http://127.0.0.1:{server.server_port}/v1", clock=Time().clock)
        assert chat(one)[0].outputs[0].text == "fine"
        assert one.usage()["retries"] == 2
    finally:
        server.shutdown()
        server.server_close()
