"""A language model as a judge of answers: a rating from 1 to 10, or a comparison with the task's reference.

The wording is our own. A verdict that cannot be read is worth the middle of the scale, which neither pays nor punishes;
how many there are is a part of its own (`judge:...: unparsed`), and a judge that rarely gives one stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from zhenlong.errors import UserError
from zhenlong.inference.cache import IN_MEMORY, RequestCache
from zhenlong.inference.model_client import open_model
from zhenlong.records import Message, Messages
from zhenlong.rewards.task_response import RewardFn, TaskResponse
from zhenlong.verify.judge_parsing import parse_rating, parse_winner

# What a verdict is worth to the answer, which is shown as A or not; half where it is a tie or cannot be read.
WIN_SCORES: Final[dict[tuple[str | None, bool], float]] = {
    ("A", True): 1.0, ("B", True): 0.0, ("A", False): 0.0, ("B", False): 1.0,
}  # fmt: skip

ChatFn = Callable[[Sequence[Messages]], list[str]]  # conversations -> one reply each; "" where there is none
RecordFn = Callable[[Sequence[TaskResponse], Sequence[float]], None]

MAX_TOKENS: Final = 512  # of a reply
MIN_RATING, MAX_RATING = 1.0, 10.0
UNPARSED_RATING: Final = (MIN_RATING + MAX_RATING) / 2
MAX_UNPARSED: Final = 0.5  # share of a call's verdicts above which the judge is no judge
MIN_VERDICTS: Final = 8  # verdicts from which that share says something

RATING_PROMPT: Final = (
    "Judge how well an AI assistant's answer serves what it was asked in the last turn of the conversation below. "
    "Consider whether it is correct, helpful, harmless and to the point; length counts neither for it nor against it."
    "{reference} Explain your view in one or two sentences. Then rate the answer from 1 (useless or harmful) to 10 "
    '(could not be better), in exactly this form: "[[rating]]", for example "[[5]]".\n\n'
)
REFERENCE_NOTE: Final = " A good answer is given for comparison."
COMPARISON_PROMPT: Final = (
    "Judge which of two AI assistants answers the last turn of the conversation below better. Consider whether the "
    "answers are correct, helpful, harmless and to the point; neither their order nor their length counts. Explain "
    'your view in one or two sentences. Then give exactly one verdict: "[[A]]" if assistant A is better, "[[B]]" if '
    'assistant B is better, "[[C]]" for a tie.\n\n'
)


def load_judge_reward(
    name: str,
    *,
    pairwise: bool = False,
    record_unparsed: RecordFn | None = None,
    cache: str | Path = IN_MEMORY,
    device: str = "auto",
    dtype: str = "float32",
) -> RewardFn:
    """`judge_reward` (or `pairwise_judge_reward`) by a model: `pocket`, a folder, a hub id, or `openai:name@url`.

    It answers greedily, and the file `cache` keeps its replies: the same question is asked once. A conversation that
    leaves no room in the context, or that the endpoint failed to answer, has the reply "".
    """
    model = open_model(name, RequestCache(cache), device=device, dtype=dtype)

    def chat(conversations: Sequence[Messages]) -> list[str]:
        outputs = model.sample_outputs(
            conversations, samples_per_prompt=1, max_tokens=MAX_TOKENS, temperature=0.0, seed=0
        )
        return [several[0].text if several else "" for several in outputs]

    make_reward = pairwise_judge_reward if pairwise else judge_reward
    return make_reward(chat, name, record_unparsed)


def judge_reward(chat_fn: ChatFn, name: str = "judge", record_unparsed: RecordFn | None = None) -> RewardFn:
    """The judge's rating of each answer, 1 to 10; the task's reference is shown to it where there is one.

    `record_unparsed` is given which answers have no rating (1, else 0). Raises UserError where most have none.
    """

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        if not responses:
            return []
        replies = chat_fn([_rating_messages(response) for response in responses])
        ratings = [parse_rating(text, MIN_RATING, MAX_RATING) for text in replies]
        _require_parsed(name, ratings, replies, "[[rating]]")
        if record_unparsed:
            record_unparsed(responses, [float(value is None) for value in ratings])
        return [UNPARSED_RATING if value is None else value for value in ratings]

    return reward


def pairwise_judge_reward(chat_fn: ChatFn, name: str = "judge", record_unparsed: RecordFn | None = None) -> RewardFn:
    """How often the judge prefers the answer to the task's reference, asked in both orders: 0, a quarter, ... 1.

    A tie is one half, so is a verdict that cannot be read; `record_unparsed` is given the share of those. A judge that
    always prefers the first place gives one half to all. Raises UserError for a task without reference, and as
    `judge_reward`.
    """

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        if not responses:
            return []
        replies = chat_fn([_comparison_messages(response, first) for response in responses for first in (True, False)])
        winners = [parse_winner(text) for text in replies]
        _require_parsed(name, winners, replies, "[[A]], [[B]] or [[C]]")
        wins = [WIN_SCORES.get((letter, place % 2 == 0), 0.5) for place, letter in enumerate(winners)]
        unparsed = [float(letter is None) for letter in winners]
        if record_unparsed:
            record_unparsed(responses, [(a + b) / 2 for a, b in zip(unparsed[::2], unparsed[1::2], strict=True)])
        return [(a + b) / 2 for a, b in zip(wins[::2], wins[1::2], strict=True)]

    return reward


def _rating_messages(response: TaskResponse) -> Messages:
    given = response.task.reference
    reference = f"[A good answer]\n{given}\n[End of the good answer]\n\n" if given else ""
    instructions = RATING_PROMPT.replace("{reference}", REFERENCE_NOTE if given else "")
    return (
        Message(
            "user",
            f"{instructions}{_format_conversation(response)}{reference}[Answer]\n{response.text}\n[End of the answer]",
        ),
    )


def _comparison_messages(response: TaskResponse, shown_first: bool) -> Messages:
    if not response.task.reference:
        raise UserError("pairwise_judge: a task has no reference to compare with; use judge, or tasks with references")
    pair = (response.text, response.task.reference) if shown_first else (response.task.reference, response.text)
    shown = "\n\n".join(
        f"[Answer of assistant {letter}]\n{text}\n[End of answer {letter}]"
        for letter, text in zip("AB", pair, strict=True)
    )
    return (Message("user", f"{COMPARISON_PROMPT}{_format_conversation(response)}{shown}"),)


def _format_conversation(response: TaskResponse) -> str:
    turns = "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in response.task.prompt)
    return f"[Conversation]\n{turns}\n[End of the conversation]\n\n"


def _require_parsed(name: str, verdicts: Sequence[object], replies: Sequence[str], expected_format: str) -> None:
    unparsed = [text for value, text in zip(verdicts, replies, strict=True) if value is None]
    if len(verdicts) >= MIN_VERDICTS and len(unparsed) > MAX_UNPARSED * len(verdicts):
        raise UserError(
            f"judge {name}: {len(unparsed)} of {len(verdicts)} verdicts cannot be read; expected {expected_format} in "
            f"each, got for example {unparsed[0][-80:]!r}; choose a model that follows the form"
        )
