"""What a reward is made of: the number that each of its named parts gave each answer, for the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zhenlong.rewards.answer import Answer, Reward
from zhenlong.rewards.combine import checked

Column = list[float | None]  # a part's number for each answer; None where it was not asked, behind a gate


@dataclass(frozen=True)
class Graded:
    """The rewards of answers, and what each named part said of them."""

    values: list[float]
    parts: Mapping[str, Column] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Each part's mean over the answers it was asked about; none where no part was asked."""
        asked = {name: [value for value in column if value is not None] for name, column in self.parts.items()}
        return {name: float(np.mean(values)) for name, values in asked.items() if values}


class Composite:
    """A reward that remembers, during one call, what its named parts say: `graded` gives both, a call the sum only.

    Make the parts with `named` and put what is combined of them into `reward`.
    """

    def __init__(self) -> None:
        self.reward: Reward = _nothing
        self._said: dict[str, dict[int, float]] = {}

    def __call__(self, answers: Sequence[Answer]) -> list[float]:
        return self.graded(answers).values

    def graded(self, answers: Sequence[Answer]) -> Graded:
        """The rewards with their parts."""
        for said in self._said.values():
            said.clear()
        values = self.reward(answers)
        return Graded(values, {name: [said.get(id(one)) for one in answers] for name, said in self._said.items()})

    def named(self, reward: Reward, name: str) -> Reward:
        """The reward, checked, whose numbers become the part `name`."""
        tested = checked(reward, name)
        self._said.setdefault(name, {})

        def told(answers: Sequence[Answer]) -> list[float]:
            values = tested(answers)
            self.tell(name, answers, values)
            return values

        return told

    def tell(self, name: str, answers: Sequence[Answer], values: Sequence[float]) -> None:
        """Add to the part `name` what is said of these answers."""
        self._said.setdefault(name, {}).update({id(one): value for one, value in zip(answers, values, strict=True)})


def grade(reward: Reward, answers: Sequence[Answer]) -> Graded:
    """The rewards of answers, with the parts of a reward that has any."""
    return reward.graded(answers) if isinstance(reward, Composite) else Graded(reward(answers))


def _nothing(answers: Sequence[Answer]) -> list[float]:
    raise RuntimeError("a Composite has to be given its reward")
