"""One instance of a scenario: its input, its references, and the groups it is reported under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reference:
    """A possible answer. In multiple choice they are all the choices; elsewhere every reference is correct."""

    text: str
    is_correct: bool = True
    tags: tuple[str, ...] = ()  # facts for a metric, such as the social groups that a BBQ answer names


@dataclass(frozen=True)
class Instance:
    """One item of a scenario.

    `id` is the data set's own id, else the 0-based row number: the same item in every run. `turns` are the later user
    turns (MT-Bench). `data` holds what only the scenario's own metrics read, such as unit tests or the arguments of an
    instruction.
    """

    id: str
    input: str
    references: tuple[Reference, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)  # subject, category, type: slices reported separately
    turns: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    perturbation: str = ""  # name of the perturbation applied to the original with the same id; "": none
    cluster: str = ""  # what it shares with other instances: a passage, conversation or template; "": nothing
    labels: bool = False  # the references are labels such as Yes and No, or values, not free text

    def __post_init__(self) -> None:
        object.__setattr__(self, "references", tuple(self.references))
        object.__setattr__(self, "turns", tuple(self.turns))

    @property
    def has_choices(self) -> bool:
        """Whether the references are choices, of which some are wrong."""
        return any(not reference.is_correct for reference in self.references)

    @property
    def has_labels(self) -> bool:
        """Whether the references are labels or choices, whose wording is given: no perturbation rewrites them."""
        return self.labels or self.has_choices

    @property
    def correct_texts(self) -> tuple[str, ...]:
        """The texts of the correct references."""
        return tuple(reference.text for reference in self.references if reference.is_correct)

    @property
    def correct_indices(self) -> tuple[int, ...]:
        """The indices of the correct references."""
        return tuple(place for place, reference in enumerate(self.references) if reference.is_correct)
