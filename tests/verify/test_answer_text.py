"""The answer in what a model said: the reasoning trace is no part of it, and an unclosed one leaves no answer."""

import pytest

from zhenlong.guarded_call import time_limit
from zhenlong.verify.answer_text import opens_reasoning, plain_characters, read_answer, strip_reasoning

TRACES = (
    "<think>{}</think>",
    "<think>\n{}\n</think>\n\n",
    "{}</think>",  # the prompt's template wrote the opening tag
    "<thinking>{}</thinking>",
    "<thought>{}</thought>",
    "<reasoning>{}</reasoning>\n",
    "[THINK]{}[/THINK]",
    "◁think▷{}◁/think▷",
    "<seed:think>{}</seed:think>",
    "<|begin_of_thought|>{}<|end_of_thought|>",
    "<|START_THINKING|>{}<|END_THINKING|>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<think>first</think><think>{}</think>",
)


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("thought", ["The answer is A.", "a <b> c\n```python\nx = 1\n```"])
def test_a_closed_trace_leaves_the_answer(trace, thought):
    answer = read_answer(trace.format(thought) + "The answer is B.")
    assert (answer.text, answer.missing) == ("The answer is B.", "")


@pytest.mark.parametrize("trace", [one for one in TRACES if not one.startswith("{}")])
def test_an_unclosed_trace_is_no_answer(trace):
    answer = read_answer(trace.split("{}")[0] + "It must be B, since")
    assert (answer.text, answer.missing) == ("", "unclosed_reasoning")


@pytest.mark.parametrize("content", ["", " \n", "<think>a</think>", "<think>a</think>\n \n"])
def test_nothing_is_an_empty_answer(content):
    assert read_answer(content).missing == "empty"


def test_reasoning_beside_the_content_is_no_answer():
    assert read_answer("B", reasoning="A, I think").text == "B"
    assert read_answer("", reasoning="It must be B").missing == "unclosed_reasoning"


def test_a_prompt_that_opens_the_trace_needs_its_end():
    assert opens_reasoning("User: hi\nAssistant: <think>\n")
    assert not opens_reasoning("<think>a</think> What is 2 + 3?")
    assert read_answer("It must be B", in_reasoning=True).missing == "unclosed_reasoning"
    assert read_answer("It must be A</think>B", in_reasoning=True).text == "B"


@pytest.mark.parametrize(
    "text", ["Close it with `</think>`.", 'print("<think>")', "a < b and [c] < d", "<answer>B</answer>"]
)
def test_a_quoted_tag_and_other_brackets_are_words_of_the_answer(text):
    assert strip_reasoning(text) == text


def test_cutting_twice_changes_nothing():
    for trace in TRACES:
        once = strip_reasoning(trace.format("x") + "y")
        assert strip_reasoning(once) == once


def test_plain_characters():
    assert plain_characters("I’m “sure”：Ｃ（３）− 2\u200b\u3000x") == 'I\'m "sure":C(3)- 2 x'


@pytest.mark.parametrize(
    "unit", ["<think>", "</think>", "<", "`</think>`", "<|channel|>analysis", "[THINK", "<think>a</think>"]
)
def test_a_megabyte_is_read_in_time_proportional_to_its_length(unit):
    with time_limit(5):  # a quadratic reader needs minutes
        answer = read_answer(unit * ((1 << 20) // len(unit)))
    assert answer.text == "" or unit in answer.text
