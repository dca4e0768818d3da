"""Synthetic reasoning in words: rules about a subject, a fact, and what follows from it in one step.

After Clark et al. 2020 (arXiv:2002.05867) and HELM's generator
(stanford-crfm/helm:src/helm/benchmark/scenarios/synthetic_reasoning_natural_scenario.py), with word lists of our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.scenarios.instances import generator

RULE_SUBJECTS: Final = {
    "person": ("Anna", "Ben", "Clara", "David", "Ella", "Felix"),
    "animal": ("otter", "badger", "heron", "donkey", "camel", "lizard", "ox", "goat", "falcon", "ibex", "hen", "wolf"),
    "plant": ("fern", "oak", "lily", "thistle", "ivy", "birch"),
}
# attributes of a subject, and the narrower words that replace them in facts at the hard level
ATTRIBUTES: Final = {
    "young": ("young",),
    "sad": ("sad", "gloomy"),
    "cold": ("cold", "icy", "chilly"),
    "hot": ("hot", "boiling", "scorching"),
    "smart": ("smart", "clever", "bright"),
    "clean": ("clean", "spotless"),
    "small": ("small", "tiny", "little"),
    "big": ("big", "huge", "enormous"),
    "good": ("good", "kind", "decent"),
    "beautiful": ("beautiful", "lovely"),
    "red": ("red", "scarlet"),
    "blue": ("blue", "navy"),
    "green": ("green", "olive"),
    "purple": ("purple", "violet"),
    "boring": ("boring", "dull"),
    "old": ("old", "ancient"),
    "strong": ("strong", "sturdy", "mighty"),
    "weak": ("weak", "feeble", "frail"),
    "fast": ("fast", "quick", "swift"),
    "slow": ("slow", "sluggish"),
    "bad": ("bad", "wicked"),
    "happy": ("happy", "cheerful", "glad"),
    "round": ("round", "spherical"),
    "loud": ("loud", "noisy"),
}
LEVELS: Final = ("easy", "medium", "hard")
MAX_RULES: Final = 5
NO_CONSEQUENT_PROBABILITY: Final = 0.1  # probability of keeping a fact without consequents


@dataclass(frozen=True)
class ReasoningRule:
    """If the subject (or its kind) is all of, or one of, `conditions`, it is `consequent`."""

    subject: str
    conditions: tuple[str, ...]
    word: str  # and, or
    consequent: str


@generator("synthetic_reasoning_natural")
def synthetic_reasoning_natural(
    n: int, seed: int, *, difficulty: str, split: str = "test"
) -> Iterator[Mapping[str, Any]]:
    """{question, target}: up to five rules, a fact, and its consequents (`Nothing.` where there are none).

    easy: rules name the subject and the attributes of the fact; medium: they may name its kind; hard: facts may use
    narrower words ("icy" is cold).
    """
    if difficulty not in LEVELS:
        raise UserError(f"generated:synthetic_reasoning_natural: difficulty: expected one of {', '.join(LEVELS)}")
    rng = Random(f"synthetic_reasoning_natural/{seed}/{difficulty}/{split}")
    for _ in range(n):
        kind = rng.choice(sorted(RULE_SUBJECTS))
        subject = rng.choice(RULE_SUBJECTS[kind])
        rules = _rules(rng, subject if difficulty == "easy" else "", subject, kind)
        facts, stated_facts, consequents = _fact(rng, rules, difficulty == "hard")
        lines = [_rule_text(rule, kind) for rule in rules]
        lines += ["Fact:", _statement(subject, kind, stated_facts)]
        lines.append(f"The following can be determined about {with_article(subject, kind, 'the')}:")
        yield {
            "question": "\n".join(lines),
            "target": _statement(subject, kind, consequents),
            "difficulty": difficulty,
            "facts": facts,
        }


def consequents_of(rules: list[ReasoningRule], facts: list[str]) -> list[str]:
    """The one-step consequents that are not among the facts."""
    found = []
    for rule in rules:
        holds = [condition in facts for condition in rule.conditions]
        if rule.consequent not in facts and (all(holds) if rule.word == "and" else any(holds)):
            found.append(rule.consequent)
    return found


def with_article(subject: str, kind: str, article: str) -> str:
    """The subject with its article; people have none."""
    if kind == "person":
        return subject
    if article == "the":
        return f"the {subject}"
    return f"an {subject}" if subject[0] in "aeiou" else f"a {subject}"


def _rules(rng: Random, only: str, subject: str, kind: str) -> list[ReasoningRule]:
    """Rules over disjoint words, so that none follows from another: reasoning takes one step."""
    left = list(ATTRIBUTES)
    rng.shuffle(left)
    rules: list[ReasoningRule] = []
    while len(left) > 2 and len(rules) < MAX_RULES:
        about = only or rng.choice([kind, subject])
        count = rng.randint(2, 3)
        *conditions, consequent = left[:count]
        left = left[count:]
        rules.append(ReasoningRule(about, tuple(conditions), rng.choice(["and", "or"]), consequent))
    return rules


def _fact(rng: Random, rules: list[ReasoningRule], hard: bool) -> tuple[list[str], list[str], list[str]]:
    """Two attributes, their wording, and their consequents."""
    while True:
        facts = rng.sample(list(ATTRIBUTES), 2)
        found = consequents_of(rules, facts)
        if found or rng.random() <= NO_CONSEQUENT_PROBABILITY:
            return facts, [rng.choice(ATTRIBUTES[one]) for one in facts] if hard else facts, found


def _rule_text(rule: ReasoningRule, kind: str) -> str:
    conditions = f" {rule.word} ".join(rule.conditions)
    then = with_article(rule.subject, kind, "the")
    return f"If {with_article(rule.subject, kind, 'a')} is {conditions}, then {then} is {rule.consequent}."


def _statement(subject: str, kind: str, attributes: list[str]) -> str:
    if not attributes:
        return "Nothing."
    who = with_article(subject, kind, "the")
    return f"{who[0].upper()}{who[1:]} is {' and '.join(attributes)}."
