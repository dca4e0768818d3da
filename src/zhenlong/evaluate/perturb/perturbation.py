"""The type of a perturbation: a rewriting of texts, applied to an instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from zhenlong.evaluate.perturb.rewriting import words_of
from zhenlong.evaluate.results.instance import Instance, Reference


@dataclass(frozen=True)
class Perturbation:
    """A rewriting of texts, its category (robustness or fairness), and whether it also rewrites free-text references.

    A perturbation that `swaps_people` (a name, a pronoun) changes who the text is about. Its function has a third
    parameter, the words that stay.
    """

    name: str
    category: str
    function: Callable[..., str]
    rewrites_references: bool
    swaps_people: bool = False

    def apply(self, instance: Instance) -> Instance | None:
        """The rewritten instance under the same id; None if its input does not change.

        Labels and choices stay, and so does, in the input, a person whom a choice names. Of free text the rewritten
        references come first, and the original ones stay right: nobody has to answer in a dialect. A person in a
        reference is swapped only if the input names that person too.

        The random numbers depend only on the perturbation's name and the instance's id, and restart for every text, so
        that a word gets the same random replacement in the question and in the references.
        """
        named: set[str] = set()
        if self.swaps_people and instance.has_choices:
            named = {word for one in instance.references for word in words_of(one.text)}
        changed = replace(
            instance,
            input=self._rewritten(instance, instance.input, named),
            turns=tuple(self._rewritten(instance, turn, named) for turn in instance.turns),
        )
        if changed == instance:
            return None
        return replace(changed, references=self._references(instance), perturbation=self.name)

    def _references(self, instance: Instance) -> tuple[Reference, ...]:
        if not self.rewrites_references or instance.has_labels:
            return instance.references
        asked = words_of("\n".join((instance.input, *instance.turns))) if self.swaps_people else set()
        rewritten = [
            replace(one, text=self._rewritten(instance, one.text, words_of(one.text) - asked))
            for one in instance.references
        ]
        return tuple(dict.fromkeys((*rewritten, *instance.references)))

    def _rewritten(self, instance: Instance, text: str, stay: set[str]) -> str:
        rng = Random(f"{self.name}:{instance.id}")
        return self.function(text, rng, stay) if self.swaps_people else self.function(text, rng)
