"""Short reviews of the world with sentiment labels, for classifiers."""

from __future__ import annotations

from random import Random

from zhenlong.world.facts import make_facts
from zhenlong.world.families.question import split_of
from zhenlong.world.families.word_tasks import sentiment_family


def reviews(n: int, seed: int = 0, split: str = "train", world: int = 0) -> list[tuple[str, str]]:
    """`n` different reviews with labels `positive` or `negative`, sampled like the world's sentiment questions.

    The combinations of things and words are split into "train" and "heldout", so the splits share no review. Raises
    `ValueError` for another split, and if there are fewer than `n` different reviews.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"split: expected train or heldout, got {split!r}")
    facts, family, rng = make_facts(world), sentiment_family(), Random(f"reviews:{world}:{seed}:{split}")
    rows: dict[str, str] = {}
    for _ in range(100 * n):
        if len(rows) == n:
            return list(rows.items())
        slots = family.sample_slots(facts, rng, {})
        if split_of(facts, family, slots) == split:
            opening = rng.choice(("The {thing} was", "The {thing} in {town} was")).format_map(slots)
            rows[f"{opening} {slots['one']} and {slots['two']}."] = family.answer(facts, slots)
    raise ValueError(f"n: expected at most about {len(rows)} different {split} reviews, got {n}")
