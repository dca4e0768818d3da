"""The type of a perturbation: a rewriting of texts, applied to an instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from zhenlong.evaluate.results.instance import Instance


@dataclass(frozen=True)
class Perturbation:
    """A rewriting of texts, its category (robustness or fairness), and whether it also rewrites the references."""

    name: str
    category: str
    function: Callable[[str, Random], str]
    rewrites_references: bool

    def apply(self, instance: Instance) -> Instance | None:
        """The rewritten instance under the same id; None if nothing changes.

        The random numbers depend only on the perturbation's name and the instance's id, and restart for every text, so
        that a word gets the same random replacement in the question and in the references.
        """

        def rewritten(text: str) -> str:
            return self.function(text, Random(f"{self.name}:{instance.id}"))

        references = instance.references
        if self.rewrites_references:
            references = tuple(replace(one, text=rewritten(one.text)) for one in references)
        turns = tuple(rewritten(turn) for turn in instance.turns)
        changed = replace(instance, input=rewritten(instance.input), turns=turns, references=references)
        return None if changed == instance else replace(changed, perturbation=self.name)
