"""What a perturbation is: a rule for texts, put to an instance."""

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
        """The instance as rewritten, under the same id; None where nothing changes.

        The random numbers depend on the perturbation's name and the instance's id alone, and begin anew in every text,
        so that a word that is replaced by a random one becomes the same word in the question and in the answers.
        """

        def rewritten(text: str) -> str:
            return self.function(text, Random(f"{self.name}:{instance.id}"))

        references = instance.references
        if self.rewrites_references:
            references = tuple(replace(one, text=rewritten(one.text)) for one in references)
        turns = tuple(rewritten(turn) for turn in instance.turns)
        changed = replace(instance, input=rewritten(instance.input), turns=turns, references=references)
        return None if changed == instance else replace(changed, perturbation=self.name)
