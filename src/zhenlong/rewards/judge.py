"""A language model as a judge of answers: a rating from 1 to 10, or a comparison with the task's reference.

The wording is our own. Of several verdicts the last one counts. One that cannot be read is worth the middle of the
scale, which neither pays nor punishes. How many there are, and why, is in the metrics (`judge:...: unparsed`); each new
reason is told with an example, and a judge that rarely gives a verdict stops the run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from zhenlong.errors import UserError
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import open_model
from zhenlong.inference.options import BackendSettings
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.inference.verdicts import WARN_ABOVE, read_output, unread_record, unread_summary, unread_verdicts
from zhenlong.records import Message, Messages
from zhenlong.rewards.options import JudgeOptions
from zhenlong.rewards.task_response import RewardFn, TaskResponse
from zhenlong.verify.judge_parsing import Verdict, read_rating, read_winner

# What a verdict is worth to the answer, which is shown as A or not; half where it is a tie or cannot be read.
WIN_SCORES: Final[dict[tuple[str | None, bool], float]] = {
    ("A", True): 1.0, ("B", True): 0.0, ("A", False): 0.0, ("B", False): 1.0,
}  # fmt: skip

# conversations -> one reply each, as text or as a model's output; "" where there is none
ChatFn = Callable[[Sequence[Messages]], Sequence[str | GeneratedOutput]]
RecordFn = Callable[[str, Sequence[TaskResponse], Sequence[float]], None]  # (what, responses, their values)

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
    name: str, *, pairwise: bool = False, record: RecordFn | None = None, options: JudgeOptions | None = None
) -> RewardFn:
    """`judge_reward` (or `pairwise_judge_reward`) by a model: `pocket`, a folder, a hub id, or `openai:name@url`.

    It answers greedily, and the options' cache keeps its replies: the same question is asked once. A conversation that
    leaves no room in the context, or that the endpoint failed to answer, has an empty reply.
    """
    options = options or JudgeOptions()
    settings = BackendSettings(device=options.device, dtype=options.dtype)
    model = open_model(name, RequestCache(options.cache), settings=settings)
    make_reward = pairwise_judge_reward if pairwise else judge_reward
    return make_reward(partial(model, max_tokens=options.max_tokens), name, record)


def judge_reward(chat_fn: ChatFn, name: str = "judge", record: RecordFn | None = None) -> RewardFn:
    """The judge's rating of each answer, 1 to 10; the task's reference is shown to it where there is one.

    `record` is told which answers have no rating (1, else 0), and why. Raises UserError where most have none.
    """
    unread_log = _UnreadLog(name, "[[rating]]")

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        if not responses:
            return []
        replies = _outputs(chat_fn([_rating_messages(response) for response in responses]))
        ratings = [read_output(one, lambda text: read_rating(text, MIN_RATING, MAX_RATING)) for one in replies]
        unread_log.check(ratings, replies)
        if record:
            _record_unread(record, responses, [[one] for one in ratings])
        return [UNPARSED_RATING if one.value is None else float(one.value) for one in ratings]

    return reward


def pairwise_judge_reward(chat_fn: ChatFn, name: str = "judge", record: RecordFn | None = None) -> RewardFn:
    """How often the judge prefers the answer to the task's reference, asked in both orders: 0, a quarter, ... 1.

    A tie is one half, so is a verdict that cannot be read; `record` is given the share of those. A judge that always
    prefers the first place gives one half to all. Raises UserError for a task without reference, and as `judge_reward`.
    """
    unread_log = _UnreadLog(name, "[[A]], [[B]] or [[C]]")

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        if not responses:
            return []
        conversations = [_comparison_messages(response, first) for response in responses for first in (True, False)]
        replies = _outputs(chat_fn(conversations))
        winners = [read_output(one, read_winner) for one in replies]
        unread_log.check(winners, replies)
        wins = [WIN_SCORES.get((one.value, place % 2 == 0), 0.5) for place, one in enumerate(winners)]
        if record:
            _record_unread(record, responses, list(zip(winners[::2], winners[1::2], strict=True)))
        return [(a + b) / 2 for a, b in zip(wins[::2], wins[1::2], strict=True)]

    return reward


class _UnreadLog:
    """Says on standard error what could not be read, each reason once; stops a run whose judge gives no verdicts."""

    def __init__(self, name: str, expected_format: str) -> None:
        self.name, self.expected_format = name, expected_format
        self.reported: set[str] = set()

    def check(self, verdicts: Sequence[Verdict], replies: Sequence[GeneratedOutput]) -> None:
        found = unread_verdicts([unread_record(verdicts, [one.text for one in replies])])
        if found["verdicts"] >= MIN_VERDICTS and found["share"] > MAX_UNPARSED:
            raise UserError(
                f"judge {self.name}: {unread_summary(found)}; expected {self.expected_format} in each; choose a model "
                "that follows the form, or give it more tokens (judge_max_tokens)"
            )
        if found["share"] > WARN_ABOVE and set(found["reasons"]) - self.reported:
            self.reported |= set(found["reasons"])
            print(f"zhenlong: warning: judge {self.name}: {unread_summary(found)}", file=sys.stderr, flush=True)


def _record_unread(record: RecordFn, responses: Sequence[TaskResponse], verdicts: Sequence[Sequence[Verdict]]) -> None:
    """The share of each response's verdicts that could not be read, and of each reason that occurred."""
    shares = [sum(one.value is None for one in several) / len(several) for several in verdicts]
    record("unparsed", responses, shares)
    for reason in sorted({one.reason for several in verdicts for one in several if one.value is None}):
        own = [sum(one.reason == reason for one in several) / len(several) for several in verdicts]
        record(f"unparsed, {reason}", responses, own)


def _outputs(replies: Sequence[str | GeneratedOutput]) -> list[GeneratedOutput]:
    return [GeneratedOutput(one) if isinstance(one, str) else one for one in replies]


def _rating_messages(response: TaskResponse) -> Messages:
    given = response.task.reference
    reference = f"[A good answer]\n{given}\n[End of the good answer]\n\n" if given else ""
    instructions = RATING_PROMPT.replace("{reference}", REFERENCE_NOTE if given else "")
    return (
        Message(
            "user",
            f"{instructions}{_format_conversation(response)}{reference}"
            f"[Answer]\n{response.answer}\n[End of the answer]",
        ),
    )


def _comparison_messages(response: TaskResponse, shown_first: bool) -> Messages:
    if not response.task.reference:
        raise UserError("pairwise_judge: a task has no reference to compare with; use judge, or tasks with references")
    pair = (response.answer, response.task.reference) if shown_first else (response.task.reference, response.answer)
    shown = "\n\n".join(
        f"[Answer of assistant {letter}]\n{text}\n[End of answer {letter}]"
        for letter, text in zip("AB", pair, strict=True)
    )
    return (Message("user", f"{COMPARISON_PROMPT}{_format_conversation(response)}{shown}"),)


def _format_conversation(response: TaskResponse) -> str:
    turns = "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in response.task.prompt)
    return f"[Conversation]\n{turns}\n[End of the conversation]\n\n"
