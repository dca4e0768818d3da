"""A model behind an endpoint: the same requests, and what fails is failed and never wrong."""

import json

import httpx
import pytest

from zhenlong.errors import UserError
from zhenlong.inference.endpoint import EndpointBackend
from zhenlong.inference.openai_endpoint import OpenAIEndpoint
from zhenlong.inference.requests import GenerateRequest, ScoreRequest, ScoreTextRequest
from zhenlong.records import Message

NAME = "openai:model@http://localhost:1/v1"


def backend(answer, **options):
    seen = []

    def handle(request):
        seen.append((request.url.path, json.loads(request.content)))
        return answer(seen[-1][1])

    sampler = OpenAIEndpoint("model", "http://localhost:1/v1", transport=httpx.MockTransport(handle), max_retries=0)
    return EndpointBackend(NAME, sampler=sampler, **options), seen


def said(text):
    def answer(body):
        one = {"message": {"content": text}, "text": text, "finish_reason": "stop"}
        choices = [{"index": number, **one} for number in range(body.get("n", 1))]
        return httpx.Response(200, json={"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 2}})

    return answer


def answers(own, requests):
    return dict(one for batch in own.generate(requests) for one in batch)


def test_texts_are_a_users_turn_and_conversations_are_themselves():
    own, seen = backend(said("yes"))
    talk = (Message("system", "Be brief."), Message("user", "Hi"))
    found = answers(own, [GenerateRequest("Is it?", max_tokens=7, stop=("x",), n=2), GenerateRequest(talk)])
    assert [output.text for output in found[0].outputs] == ["yes", "yes"]
    bodies = {len(body["messages"]): body for _, body in seen}
    assert bodies[1]["messages"] == [{"role": "user", "content": "Is it?"}]
    assert (bodies[1]["max_tokens"], bodies[1]["stop"], bodies[1]["temperature"]) == (7, ["x"], 0.0)
    assert [one["role"] for one in bodies[2]["messages"]] == ["system", "user"]


def test_without_a_template_a_text_is_completed_as_it_is():
    own, seen = backend(said("yes"), chat=False)
    assert answers(own, [GenerateRequest("Is it?")])[0].outputs[0].text == "yes"
    assert (seen[0][0], seen[0][1]["prompt"]) == ("/v1/completions", "Is it?")
    assert own.fingerprint != backend(said(""))[0].fingerprint


@pytest.mark.parametrize("response", [httpx.Response(500, text="down"), httpx.Response(200, text="no json")])
def test_what_the_server_cannot_answer_is_a_failed_answer(response):
    own, _ = backend(lambda body: response)
    (answer,) = answers(own, [GenerateRequest("a")]).values()
    assert answer.failed
    assert not answer.outputs


def test_choices_that_cannot_be_scored_are_one_line_that_says_what_to_do():
    own, _ = backend(lambda body: httpx.Response(404, json={"error": {"message": "no completions"}}))
    with pytest.raises(UserError, match="multiple_choice_joint"):
        list(own.score([ScoreRequest("a", (" b",))]))
    with pytest.raises(UserError, match="local model"):
        list(own.score([ScoreTextRequest("a")]))
