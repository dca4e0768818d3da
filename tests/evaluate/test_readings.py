"""Metrics score what a model answered, never its reasoning, and every outcome records whether it could be read."""

import pytest

from zhenlong.evaluate.metrics.code import code_passes
from zhenlong.evaluate.metrics.matching import exact_match_metric
from zhenlong.evaluate.metrics.multiple_choice import letter_choice
from zhenlong.evaluate.metrics.registry import Measure, Metric
from zhenlong.evaluate.metrics.text_overlap import rouge_l
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.results.reading import Reading, ReadingStatus
from zhenlong.evaluate.run.aggregate import make_record
from zhenlong.evaluate.run.read_outcomes import with_reading
from zhenlong.inference.openai_responses import RequestFailure, parse_chat_completions
from zhenlong.inference.requests import GeneratedOutput, RequestResult, result_from_json, result_to_json

INSTANCE = Instance("1", "q", (Reference("yes"),))
FINDS = Metric("digit", "instance", (Measure("digit"),), lambda outcome: {}, finds=lambda text, instance: "7" in text)


def answered(*texts, **fields):
    return Outcome(INSTANCE, tuple(GeneratedOutput(text, **fields) for text in texts))


def reading(outcome, *metrics):
    return with_reading(outcome, [(one, one.bind({})) for one in metrics]).reading


def test_the_trace_is_in_the_outputs_and_in_no_answer():
    outcome = Outcome(INSTANCE, (GeneratedOutput("<think>no</think>yes", turns=("<think>a</think>b",)),))
    assert outcome.outputs[0].text == "<think>no</think>yes"
    assert (outcome.text, outcome.answers[0].turns) == ("yes", ("b",))
    assert exact_match_metric(outcome) == {"exact_match": 1.0}
    assert exact_match_metric(answered("<think>yes")) == {"exact_match": 0.0}


def test_a_prompt_that_opens_the_trace_is_known_to_the_outcome():
    assert Outcome(INSTANCE, (GeneratedOutput("yes"),), prompt="q\n<think>\n").text == ""
    assert Outcome(INSTANCE, (GeneratedOutput("no</think>yes"),), prompt="q\n<think>\n").text == "yes"


def test_right_code_in_an_unclosed_trace_does_not_pass():
    tests = {"kind": "asserts", "asserts": ["assert f(1) == 2"], "extraction": "block"}
    program = "```python\ndef f(n):\n    return n + 1\n```"
    for text, passes in ((program, 1.0), (f"<think>{program}", 0.0), (f"<think>x</think>{program}", 1.0)):
        outcome = Outcome(Instance("1", "q", data={"tests": tests}), (GeneratedOutput(text),))
        assert code_passes(outcome, sandbox="none") == {"code_passes": passes}


def test_overlap_and_letters_are_those_of_the_answer():
    plain, thinking = answered("yes"), answered("<think>a long long trace</think>yes")
    assert rouge_l(plain) == rouge_l(thinking)
    choices = Instance("1", "q", (Reference("x"), Reference("y", False)))
    outcome = Outcome(choices, (GeneratedOutput("<think>The answer is (A)"),))
    assert letter_choice(outcome) == {"letter_choice": 0.0, "letter_found": 0.0}


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (answered("7"), ReadingStatus.READ),
        (answered("7", truncated=True), ReadingStatus.READ),
        (answered("none"), ReadingStatus.UNREAD),
        (answered("none", truncated=True), ReadingStatus.TRUNCATED),
        (answered("<think>7", truncated=True), ReadingStatus.TRUNCATED),
        (answered(" "), ReadingStatus.EMPTY),
        (answered("<think>7</think>"), ReadingStatus.EMPTY),
        (Outcome(INSTANCE, failed="finish_reason content_filter"), ReadingStatus.FAILED),
    ],
)
def test_the_status_of_a_reading(outcome, status):
    assert reading(outcome, FINDS).status is status


def test_an_answer_is_unread_if_no_metric_finds_one():
    other = Metric("x", "instance", (Measure("x"),), lambda outcome: {}, finds=lambda text, instance: "x" in text)
    plain = Metric("plain", "instance", (Measure("plain"),), lambda outcome: {})
    assert reading(answered("x"), FINDS, other, plain).status is ReadingStatus.READ
    assert reading(answered("y"), FINDS, other, plain).status is ReadingStatus.UNREAD
    assert reading(answered("y"), plain).status is ReadingStatus.READ


def test_samples_are_counted_one_by_one():
    found = reading(answered("7", "none", "", "17"), FINDS)
    assert (found.status, found.num_read, found.num_outputs) == (ReadingStatus.UNREAD, 2, 4)


def test_a_record_keeps_a_reading_that_is_not_plain():
    def recorded(outcome):
        return make_record(with_reading(outcome, [(FINDS, FINDS.bind({}))]), None).reading

    assert recorded(answered("7")) == {}
    assert recorded(answered("7", truncated=True))["at_token_limit"] is True
    assert recorded(answered("none"))["status"] == "unread"


def test_a_metric_that_cannot_look_finds_nothing():
    broken = Metric("b", "instance", (Measure("b"),), lambda outcome: {}, finds=lambda text, instance: int(text) > 0)
    assert reading(answered("x"), broken) == Reading(
        ReadingStatus.UNREAD, "no answer is found in the text", num_outputs=1
    )


def chat_reply(content, finish_reason="stop", **fields):
    message = {"role": "assistant", "content": content, **fields}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_an_endpoints_reasoning_is_kept_apart(field):
    (output,) = parse_chat_completions(chat_reply("B", **{field: "A?"}))
    assert (output.text, output.reasoning) == ("B", "A?")
    result = RequestResult((output,))
    assert result_from_json(result_to_json(result)) == result
    (cut,) = parse_chat_completions(chat_reply(None, "length", **{field: "yes, or"}))
    assert reading(Outcome(INSTANCE, (cut,))).status is ReadingStatus.TRUNCATED


@pytest.mark.parametrize("reason", ["content_filter", "error"])
def test_what_a_filter_or_an_error_ended_is_failed(reason):
    found = parse_chat_completions(chat_reply("I", reason))
    assert isinstance(found, RequestFailure)
    assert reason in found.reason
