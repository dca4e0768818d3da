"""A language model as a judge of answers: a rating from 1 to 10, or a comparison with the task's reference.

The wording is our own. A verdict that cannot be read is worth the middle of the scale, which neither pays nor punishes;
how many there are is a part of its own (`judge:...: unread`), and a judge that rarely gives one stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from zhenlong.errors import UserError
from zhenlong.records import Message, Messages
from zhenlong.rewards.answer import Answer, Reward
from zhenlong.sampling.asking import Asked, asked_model
from zhenlong.verify.judgements import rating, winner

# What a verdict is worth to the answer, which is shown as A or not; half where it is a tie or cannot be read.
WORTH: Final[dict[tuple[str | None, bool], float]] = {
    ("A", True): 1.0, ("B", True): 0.0, ("A", False): 0.0, ("B", False): 1.0,
}  # fmt: skip

Tell = Callable[[Sequence[Answer], Sequence[float]], None]

LOWEST, HIGHEST = 1.0, 10.0
MIDDLE: Final = (LOWEST + HIGHEST) / 2
MOST_UNREAD: Final = 0.5  # share of a call's verdicts above which the judge is no judge
FEWEST: Final = 8  # verdicts from which that share says something

RATE: Final = (
    "Judge how well an AI assistant's answer serves what it was asked in the last turn of the conversation below. "
    "Consider whether it is correct, helpful, harmless and to the point; length counts neither for it nor against it."
    "{reference} Explain your view in one or two sentences. Then rate the answer from 1 (useless or harmful) to 10 "
    '(could not be better), in exactly this form: "[[rating]]", for example "[[5]]".\n\n'
)
REFERENCE: Final = " A good answer is given for comparison."
COMPARE: Final = (
    "Judge which of two AI assistants answers the last turn of the conversation below better. Consider whether the "
    "answers are correct, helpful, harmless and to the point; neither their order nor their length counts. Explain "
    'your view in one or two sentences. Then give exactly one verdict: "[[A]]" if assistant A is better, "[[B]]" if '
    'assistant B is better, "[[C]]" for a tie.\n\n'
)


def load_judge(
    name: str, *, pairwise: bool = False, tell: Tell | None = None, device: str = "auto", dtype: str = "float32"
) -> Reward:
    """`judge_reward` (or `judge_pair_reward`) by a model named as `zhenlong sample` takes it, or `openai:name@url`."""
    made = judge_pair_reward if pairwise else judge_reward
    return made(asked_model(name, device=device, dtype=dtype), name, tell)


def judge_reward(ask: Asked, name: str = "judge", tell: Tell | None = None) -> Reward:
    """The judge's rating of each answer, 1 to 10; the task's reference is shown to it where there is one.

    `tell` is told which answers have no rating (1, else 0). Raises UserError where most have none.
    """

    def reward(answers: Sequence[Answer]) -> list[float]:
        if not answers:
            return []
        said = ask([_rate(answer) for answer in answers])
        found = [rating(text, LOWEST, HIGHEST) for text in said]
        _require_verdicts(name, found, said, "[[rating]]")
        if tell:
            tell(answers, [float(value is None) for value in found])
        return [MIDDLE if value is None else value for value in found]

    return reward


def judge_pair_reward(ask: Asked, name: str = "judge", tell: Tell | None = None) -> Reward:
    """How often the judge prefers the answer to the task's reference, asked in both orders: 0, a quarter, ... 1.

    A tie is one half, so is a verdict that cannot be read; `tell` is told the share of those. A judge that always
    prefers the first place gives one half to all. Raises UserError for a task without reference, and as `judge_reward`.
    """

    def reward(answers: Sequence[Answer]) -> list[float]:
        if not answers:
            return []
        said = ask([_compare(answer, first) for answer in answers for first in (True, False)])
        letters = [winner(text) for text in said]
        _require_verdicts(name, letters, said, "[[A]], [[B]] or [[C]]")
        wins = [WORTH.get((letter, place % 2 == 0), 0.5) for place, letter in enumerate(letters)]
        unread = [float(letter is None) for letter in letters]
        if tell:
            tell(answers, [(a + b) / 2 for a, b in zip(unread[::2], unread[1::2], strict=True)])
        return [(a + b) / 2 for a, b in zip(wins[::2], wins[1::2], strict=True)]

    return reward


def _rate(answer: Answer) -> Messages:
    given = answer.task.reference
    reference = f"[A good answer]\n{given}\n[End of the good answer]\n\n" if given else ""
    asked = RATE.replace("{reference}", REFERENCE if given else "")
    return (Message("user", f"{asked}{_conversation(answer)}{reference}[Answer]\n{answer.text}\n[End of the answer]"),)


def _compare(answer: Answer, first: bool) -> Messages:
    if not answer.task.reference:
        raise UserError("judge_pair: a task has no reference to compare with; use judge, or tasks with references")
    pair = (answer.text, answer.task.reference) if first else (answer.task.reference, answer.text)
    shown = "\n\n".join(
        f"[Answer of assistant {letter}]\n{text}\n[End of answer {letter}]"
        for letter, text in zip("AB", pair, strict=True)
    )
    return (Message("user", f"{COMPARE}{_conversation(answer)}{shown}"),)


def _conversation(answer: Answer) -> str:
    turns = "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in answer.task.prompt)
    return f"[Conversation]\n{turns}\n[End of the conversation]\n\n"


def _require_verdicts(name: str, found: Sequence[object], said: Sequence[str], form: str) -> None:
    unread = [text for value, text in zip(found, said, strict=True) if value is None]
    if len(found) >= FEWEST and len(unread) > MOST_UNREAD * len(found):
        raise UserError(
            f"judge {name}: {len(unread)} of {len(found)} verdicts cannot be read; expected {form} in each, got for "
            f"example {unread[0][-80:]!r}; choose a model that follows the form"
        )
