"""The synthetic world: one seed determines its facts, and all its texts and questions follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from zhenlong.records import Demonstration, Document, Message, Messages, Ranking, Rating, Task
from zhenlong.world import closed_book, corpus
from zhenlong.world.annotators import DEFAULT_PANEL, PanelOptions, annotate, is_desirable, make_panel
from zhenlong.world.closed_book import Cloze
from zhenlong.world.demonstrator import IDEAL_DEMONSTRATOR, Demonstrator, simulate_response
from zhenlong.world.facts import Facts, make_facts
from zhenlong.world.families.registry import SampledQuestion, ideal_responses, instruction_families, sample_question
from zhenlong.world.gold import GoldBreakdown, gold_breakdown, gold_reward

COMPLIANT_DEMONSTRATOR: Final = replace(IDEAL_DEMONSTRATOR, harmful_compliance_rate=1.0)
BENIGN: Final = "benign"  # all prompts except harmful ones


@dataclass(frozen=True)
class World:
    """People, towns and their facts, determined by `seed`; each method is deterministic given its arguments.

    `split` is "train" or "heldout": the two share no prompt, and training prompts never ask for a held-out fact.
    """

    seed: int = 0

    @property
    def facts(self) -> Facts:
        """The facts of this world."""
        return make_facts(self.seed)

    def documents(self, n: int, seed: int = 0, style: str = "mixed") -> list[Document]:
        """`n` paragraphs for pretraining; `style` is "mixed", "facts" (dense in facts) or "practice" (copies, sums)."""
        return list(corpus.documents(self.facts, n, seed, style))

    def closed_book(self, n: int, seed: int = 0) -> list[Cloze]:
        """`n` multiple-choice completions with four choices, to measure a base model's knowledge."""
        return list(closed_book.cloze_items(self.facts, n, seed))

    def demonstrations(
        self,
        n: int,
        seed: int = 0,
        split: str = "train",
        kind: str = "",
        demonstrator: Demonstrator | None = None,
    ) -> list[Demonstration]:
        """`n` conversations by an imperfect demonstrator.

        `kind` restricts the prompts: answer, open, harmful, lookalike, or benign (all but harmful).
        """
        facts, author, rng = self.facts, demonstrator or Demonstrator(), self._rng("demonstrations", seed, split)
        rows = []
        for _ in range(n):
            sampled = _sample_question_of_kind(facts, rng, split, kind)
            reply = simulate_response(facts, sampled.question, rng, author)
            rows.append(Demonstration((*sampled.prompt, Message("assistant", reply)), "world", _task_groups(sampled)))
        return rows

    def rankings(
        self,
        n: int,
        seed: int = 0,
        split: str = "train",
        num_responses: int = 2,
        panel: PanelOptions = DEFAULT_PANEL,
        demonstrator: Demonstrator | None = None,
    ) -> list[Ranking]:
        """`n` rankings of `num_responses` different texts by a panel of annotators."""
        facts, author, rng = self.facts, demonstrator or Demonstrator(), self._rng("rankings", seed, split)
        annotators = make_panel(panel, self.seed)
        rows: list[Ranking] = []
        while len(rows) < n:
            sampled = sample_question(facts, rng, split)
            candidates = dict.fromkeys(
                simulate_response(facts, sampled.question, rng, author) for _ in range(2 * num_responses)
            )
            if len(candidates) >= num_responses:
                ranking = annotate(
                    sampled.prompt, tuple(candidates)[:num_responses], rng.choice(annotators), rng, self.seed
                )
                rows += [ranking] if ranking else []
        return rows

    def ratings(
        self,
        n: int,
        seed: int = 0,
        split: str = "train",
        panel: PanelOptions = DEFAULT_PANEL,
        demonstrator: Demonstrator | None = None,
    ) -> list[Rating]:
        """`n` single responses labelled desirable or undesirable."""
        facts, author, rng = self.facts, demonstrator or Demonstrator(), self._rng("ratings", seed, split)
        annotators = make_panel(panel, self.seed)
        rows = []
        for _ in range(n):
            sampled = sample_question(facts, rng, split)
            reply = simulate_response(facts, sampled.question, rng, author)
            rows.append(
                Rating(
                    sampled.prompt, reply, is_desirable(sampled.prompt, reply, rng.choice(annotators), rng, self.seed)
                )
            )
        return rows

    def safety(self, n: int, seed: int = 0, split: str = "train") -> list[Ranking]:
        """`n` harmful requests, each with a refusal and, ranked below it, a response that complies.

        As demonstrations these are `n` refusals. Requests repeat, because there are not very many; wordings vary.
        """
        facts, rng = self.facts, self._rng("safety", seed, split)
        rows = []
        for _ in range(n):
            sampled = _sample_question_of_kind(facts, rng, split, "harmful")
            pair = tuple(
                simulate_response(facts, sampled.question, rng, writer)
                for writer in (IDEAL_DEMONSTRATOR, replace(IDEAL_DEMONSTRATOR, harmful_compliance_rate=1.0))
            )
            rows.append(Ranking(sampled.prompt, pair, (1, 2), meta=_task_groups(sampled)))
        return rows

    def tasks(self, n: int, seed: int = 0, split: str = "train") -> list[Task]:
        """`n` different prompts with an ideal response as reference. Raises `ValueError` if there are fewer."""
        facts, rng = self.facts, self._rng("tasks", seed, split)
        rows: dict[Messages, Task] = {}
        for _ in range(20 * n):
            if len(rows) == n:
                break
            sampled = sample_question(facts, rng, split)
            arguments = {"seed": self.seed} if self.seed else {}
            reference = ideal_responses(facts, sampled.question)[0]
            rows[sampled.prompt] = Task(sampled.prompt, reference, "world", arguments, _task_groups(sampled))
        if len(rows) < n:
            raise ValueError(f"n: expected at most about {len(rows)} different {split} tasks, got {n}")
        return list(rows.values())

    def gold_breakdown(self, prompt: Messages, response: str) -> GoldBreakdown:
        """The components of a response's gold reward in this world."""
        return gold_breakdown(prompt, response, self.seed)

    def gold_reward(self, prompt: Messages, response: str) -> float:
        """The gold reward of a response in this world, in [0, 1]."""
        return gold_reward(prompt, response, self.seed)

    def _rng(self, purpose: str, seed: int, split: str) -> Random:
        return Random(f"{purpose}:{self.seed}:{seed}:{split}")


def _sample_question_of_kind(facts: Facts, rng: Random, split: str, kind: str) -> SampledQuestion:
    """A question of the given kind, by rejection sampling. Raises `ValueError` for an unknown kind."""
    kinds = {family.kind for family in instruction_families()}
    if kind and kind not in {*kinds, BENIGN}:
        raise ValueError(f"kind: expected one of {', '.join((*sorted(kinds), BENIGN))}, got {kind!r}")
    while True:
        sampled = sample_question(facts, rng, split)
        if kind in ("", sampled.question.family.kind) or (kind == BENIGN and sampled.question.family.kind != "harmful"):
            return sampled


def _task_groups(sampled: SampledQuestion) -> dict[str, str]:
    family = sampled.question.family
    return {"family": family.name, "kind": family.kind, "format": "yes" if sampled.question.format else "no"}
