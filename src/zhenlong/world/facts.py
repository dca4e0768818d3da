"""The facts of a world, determined by its seed: people, their homes and jobs, and what each town is known for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from zhenlong.world.vocabulary import (
    COLOURS,
    FOODS,
    HOBBIES,
    JOBS,
    MEN,
    PEOPLE,
    PETS,
    PRODUCTS,
    REGIONS,
    RIVERS,
    TOWNS,
)

PERSON_ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "home": TOWNS,
    "job": JOBS,
    "pet": PETS,
    "food": FOODS,
    "colour": COLOURS,
    "hobby": HOBBIES,
}
TOWN_ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {"region": REGIONS, "product": PRODUCTS, "river": RIVERS}


@dataclass(frozen=True)
class Facts:
    """All facts of one world. `people[attribute][name]` and `towns[attribute][town]` are the values."""

    seed: int
    people: dict[str, dict[str, str]]
    towns: dict[str, dict[str, str]]
    job_holder: dict[tuple[str, str], str]  # (job, town) -> the one person who has that job there
    product_town: dict[str, str]  # product -> town
    residents: dict[str, tuple[str, ...]]


@lru_cache(maxsize=8)
def make_facts(seed: int) -> Facts:
    """The facts of world `seed`. All values are equally common, and no town has two people with the same job."""
    rng = random.Random(f"facts:{seed}")
    homes = _assign_evenly(PEOPLE, TOWNS, rng)
    residents = {town: tuple(name for name in PEOPLE if homes[name] == town) for town in TOWNS}
    jobs = _assign_jobs(residents, rng)
    people = {"home": homes, "job": jobs}
    for attribute in ("pet", "food", "colour", "hobby"):
        people[attribute] = _assign_evenly(PEOPLE, PERSON_ATTRIBUTES[attribute], rng)
    towns = {attribute: _assign_evenly(TOWNS, values, rng) for attribute, values in TOWN_ATTRIBUTES.items()}
    holder = {(jobs[name], homes[name]): name for name in PEOPLE}
    maker = {product: town for town, product in towns["product"].items()}
    return Facts(seed, people, towns, holder, maker, residents)


def is_man(name: str) -> bool:
    """Whether texts refer to the person as "he"."""
    return name in _MEN


_MEN: Final = frozenset(MEN)


def _assign_evenly(holders: Sequence[str], values: Sequence[str], rng: random.Random) -> dict[str, str]:
    """Assign the values at random, each to equally many holders."""
    cards = [values[i % len(values)] for i in range(len(holders))]
    rng.shuffle(cards)
    return dict(zip(holders, cards, strict=True))


def _assign_jobs(residents: dict[str, tuple[str, ...]], rng: random.Random) -> dict[str, str]:
    """Assign jobs so that no town has one twice: a row of all jobs per resident position, each row shifted."""
    order = list(JOBS)
    rng.shuffle(order)
    towns = list(residents)
    rng.shuffle(towns)
    shifts = rng.sample(range(len(JOBS)), len(residents[towns[0]]))
    jobs: dict[str, str] = {}
    for row, shift in enumerate(shifts):
        for column, town in enumerate(towns):
            jobs[residents[town][row]] = order[(column + shift) % len(order)]
    return jobs
