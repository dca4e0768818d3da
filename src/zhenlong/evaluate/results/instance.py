"""What is asked: one instance of a scenario, its references, and the groups it is reported under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reference:
    """A possible answer. Multiple choice lists them all; elsewhere every one is correct."""

    text: str
    is_correct: bool = True
    tags: tuple[str, ...] = ()  # what a metric needs to know of it, such as the groups that BBQ's answers name


@dataclass(frozen=True)
class Instance:
    """One item of a scenario.

    `id` is the data set's own id, else the 0-based number of its row, and names the same item in every run. `turns` are
    the user's further turns (MT-Bench). `data` holds what only the scenario's own metrics read: a program's tests, an
    instruction's arguments.
    """

    id: str
    input: str
    references: tuple[Reference, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)  # subject, category, type: slices that are reported apart
    turns: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    perturbation: str = ""  # the name of the perturbation that made it from the original of the same id; "": none

    def __post_init__(self) -> None:
        object.__setattr__(self, "references", tuple(self.references))
        object.__setattr__(self, "turns", tuple(self.turns))

    @property
    def correct_texts(self) -> tuple[str, ...]:
        """The texts of the correct references."""
        return tuple(reference.text for reference in self.references if reference.is_correct)

    @property
    def correct_indices(self) -> tuple[int, ...]:
        """The places of the correct references among all."""
        return tuple(place for place, reference in enumerate(self.references) if reference.is_correct)
