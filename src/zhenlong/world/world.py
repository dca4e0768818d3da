"""The micro-world: one seed fixes its facts, and everything it can write or ask follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from zhenlong.records import Demonstration, Document, Message, Messages, Ranking, Rating, Task
from zhenlong.world import closed_book, corpus
from zhenlong.world.annotators import NOISE, annotate, approves, panel
from zhenlong.world.closed_book import Cloze
from zhenlong.world.demonstrator import IDEAL, Demonstrator, respond
from zhenlong.world.facts import Facts, make_facts
from zhenlong.world.families.catalogue import Asked, ask, families, ideals
from zhenlong.world.gold import Check, check, gold_reward

COMPLYING: Final = replace(IDEAL, complies=1.0)
BENIGN: Final = "benign"  # every kind of prompt but harmful ones


@dataclass(frozen=True)
class World:
    """People, towns and their facts, fixed by `seed`; each method is deterministic given its own arguments.

    `split` is "train" or "heldout": the two share no prompt, and no fact that is held out is asked for in training.
    """

    seed: int = 0

    @property
    def facts(self) -> Facts:
        """What is true in this world."""
        return make_facts(self.seed)

    def documents(self, n: int, seed: int = 0, style: str = "mixed") -> list[Document]:
        """`n` paragraphs to pretrain on; `style` is "mixed", "facts" (dense in facts) or "practice" (copies, sums)."""
        return list(corpus.documents(self.facts, n, seed, style))

    def closed_book(self, n: int, seed: int = 0) -> list[Cloze]:
        """`n` multiple-choice completions with four choices, to measure what a base model knows."""
        return list(closed_book.closed_book(self.facts, n, seed))

    def demonstrations(
        self,
        n: int,
        seed: int = 0,
        split: str = "train",
        kind: str = "",
        demonstrator: Demonstrator | None = None,
    ) -> list[Demonstration]:
        """`n` conversations by an imperfect demonstrator.

        `kind` takes some of the prompts only: answer, open, harmful, lookalike, or benign (all but harmful).
        """
        facts, writer, rng = self.facts, demonstrator or Demonstrator(), self._rng("demonstrations", seed, split)
        rows = []
        for _ in range(n):
            asked = _ask(facts, rng, split, kind)
            reply = respond(facts, asked.question, rng, writer)
            rows.append(Demonstration((*asked.prompt, Message("assistant", reply)), "world", _groups(asked)))
        return rows

    def rankings(
        self,
        n: int,
        seed: int = 0,
        split: str = "train",
        responses: int = 2,
        annotators: int = 5,
        noise: float = NOISE,
        length_bias: float = 0.0,
        list_bias: float = 0.0,
        demonstrator: Demonstrator | None = None,
    ) -> list[Ranking]:
        """`n` rankings of `responses` different texts by a panel of annotators; see `annotators` for the options."""
        facts, writer, rng = self.facts, demonstrator or Demonstrator(), self._rng("rankings", seed, split)
        judges = panel(annotators, self.seed, noise, length_bias, list_bias)
        rows: list[Ranking] = []
        while len(rows) < n:
            asked = ask(facts, rng, split)
            drawn = dict.fromkeys(respond(facts, asked.question, rng, writer) for _ in range(2 * responses))
            if len(drawn) >= responses:
                ranking = annotate(asked.prompt, tuple(drawn)[:responses], rng.choice(judges), rng, self.seed)
                rows += [ranking] if ranking else []
        return rows

    def ratings(
        self,
        n: int,
        seed: int = 0,
        split: str = "train",
        annotators: int = 5,
        noise: float = NOISE,
        demonstrator: Demonstrator | None = None,
    ) -> list[Rating]:
        """`n` single responses with a thumb up or down."""
        facts, writer, rng = self.facts, demonstrator or Demonstrator(), self._rng("ratings", seed, split)
        judges = panel(annotators, self.seed, noise)
        rows = []
        for _ in range(n):
            asked = ask(facts, rng, split)
            reply = respond(facts, asked.question, rng, writer)
            rows.append(Rating(asked.prompt, reply, approves(asked.prompt, reply, rng.choice(judges), rng, self.seed)))
        return rows

    def safety(self, n: int, seed: int = 0, split: str = "train") -> list[Ranking]:
        """`n` harmful requests, each with a refusal and, ranked below it, an answer that helps with the harm.

        As demonstrations these are `n` refusals. Requests recur, for there are not very many; the wordings differ.
        """
        facts, rng = self.facts, self._rng("safety", seed, split)
        rows = []
        for _ in range(n):
            asked = _ask(facts, rng, split, "harmful")
            pair = tuple(
                respond(facts, asked.question, rng, writer) for writer in (IDEAL, replace(IDEAL, complies=1.0))
            )
            rows.append(Ranking(asked.prompt, pair, (1, 2), meta=_groups(asked)))
        return rows

    def tasks(self, n: int, seed: int = 0, split: str = "train") -> list[Task]:
        """`n` different prompts with an ideal answer as reference. Raises `ValueError` if there are not that many."""
        facts, rng = self.facts, self._rng("tasks", seed, split)
        rows: dict[Messages, Task] = {}
        for _ in range(20 * n):
            if len(rows) == n:
                break
            asked = ask(facts, rng, split)
            arguments = {"seed": self.seed} if self.seed else {}
            reference = ideals(facts, asked.question)[0]
            rows[asked.prompt] = Task(asked.prompt, reference, "world", arguments, _groups(asked))
        if len(rows) < n:
            raise ValueError(f"n: expected at most about {len(rows)} different {split} tasks, got {n}")
        return list(rows.values())

    def check(self, prompt: Messages, response: str) -> Check:
        """The parts of the judgement of a response in this world."""
        return check(prompt, response, self.seed)

    def gold_reward(self, prompt: Messages, response: str) -> float:
        """What a response is worth in this world, in [0, 1]."""
        return gold_reward(prompt, response, self.seed)

    def _rng(self, purpose: str, seed: int, split: str) -> Random:
        return Random(f"{purpose}:{self.seed}:{seed}:{split}")


def _ask(facts: Facts, rng: Random, split: str, kind: str) -> Asked:
    """A question of the kind, by drawing until one is. Raises `ValueError` for an unknown kind."""
    kinds = {family.kind for family in families()}
    if kind and kind not in {*kinds, BENIGN}:
        raise ValueError(f"kind: expected one of {', '.join((*sorted(kinds), BENIGN))}, got {kind!r}")
    while True:
        asked = ask(facts, rng, split)
        if kind in ("", asked.question.family.kind) or (kind == BENIGN and asked.question.family.kind != "harmful"):
            return asked


def _groups(asked: Asked) -> dict[str, str]:
    family = asked.question.family
    return {"family": family.name, "kind": family.kind, "format": "yes" if asked.question.format else "no"}
