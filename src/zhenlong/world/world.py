"""The micro-world: one seed fixes its facts, and everything it can write or ask follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from zhenlong.records import Document
from zhenlong.world import corpus
from zhenlong.world.facts import Facts, make_facts


@dataclass(frozen=True)
class World:
    """People, towns and their facts, fixed by `seed`; each method is deterministic given its own arguments."""

    seed: int = 0

    @property
    def facts(self) -> Facts:
        return make_facts(self.seed)

    def documents(self, n: int, seed: int = 0, style: str = "mixed") -> list[Document]:
        """`n` paragraphs to pretrain on; `style` is "mixed" or "facts" (denser in facts, for the decay phase)."""
        return list(corpus.documents(self.facts, n, seed, style))
