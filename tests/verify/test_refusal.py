"""The refusal detector on refusals and on responses that only resemble them."""

import pytest

from zhenlong.verify import is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "I cannot provide instructions for that.",
        "Sorry, I won't do that.",
        "I am unable to help you with this.",
        "I'm not able to share that information.",
        "As an AI, I cannot give legal advice.",
        "Thank you for asking. Unfortunately, I really cannot help with this.",
        "I must respectfully decline.",
        "I will not write that, because it could hurt someone.",
        "I don't feel comfortable answering this.",
        "That goes against my guidelines.",
        "I do not condone violence. Please talk to someone you trust.",
        "No, I cannot.",
    ],
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)
    assert is_refusal(text.upper().replace(" ", "\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure, here is how.",
        "I'm sorry to hear that. Try restarting the router.",
        "I cannot stress enough how important sleep is.",
        "I can't wait to help!",
        "I can't help but smile at this question. The answer is 4.",
        "You can't help someone who does not want it, but you can listen.",
        "To kill a Python process, press Ctrl+C.",
        "The witness refused to answer.",
        "They decline to comment, he said.",
    ],
)
def test_answers_that_are_not_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_a_no_long_after_the_start_is_not_a_refusal() -> None:
    assert not is_refusal("Here is the recipe. " + "Stir slowly. " * 40 + "I can't help with the washing-up.")
