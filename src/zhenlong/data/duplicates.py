"""Texts that occur again: word for word, and nearly so.

Two texts are nearly the same when their sets of word trigrams overlap: Jaccard |A ∩ B| / |A ∪ B| of at least a
threshold. Candidates come from MinHash signatures in bands (Broder 1997; Leskovec et al., Mining of Massive Datasets,
§3.4), and each is then decided by its exact Jaccard, so no pair is found that should not be. With b bands of r rows one
of similarity s is missed with probability (1 - s^r)^b; r is the largest for which that is at most `MISSED` at the
threshold. A character of Chinese or Japanese is a word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_HAN: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORDS: Final = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+")
SHINGLE: Final = 3  # words
HASHES: Final = 128
MISSED: Final = 1e-4
THRESHOLD: Final = 0.8
CROWD: Final = 64  # members of a bucket that are compared with one another; further ones with the first alone


@dataclass(frozen=True)
class Groups:
    """For each text the number of the first text of its group, its own where it is the first; and the pairs found."""

    first: tuple[int, ...]
    pairs: tuple[tuple[int, int, float], ...] = ()  # (earlier, later, similarity), most similar first

    @property
    def repeated(self) -> int:
        """How many texts a group has beyond its first."""
        return sum(place != first for place, first in enumerate(self.first))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return WORDS.findall(text.lower())


def exact(texts: Sequence[str]) -> Groups:
    """Texts of the same words in the same order, whatever their punctuation, capitals and spaces."""
    seen: dict[str, int] = {}
    return Groups(tuple(seen.setdefault(" ".join(words_of(text)) or text, place) for place, text in enumerate(texts)))


def near(texts: Sequence[str], threshold: float = THRESHOLD) -> Groups:
    """Texts whose Jaccard similarity with another of the group is at least `threshold`; exact ones are among them."""
    same = exact(texts)
    originals = [place for place, first in enumerate(same.first) if place == first]
    sets = {place: shingles(texts[place]) for place in originals}
    pairs = sorted(_similar(sets, threshold), key=lambda pair: (-pair[2], pair[:2]))
    parent = list(same.first)
    for earlier, later, _ in pairs:
        a, b = _top(parent, earlier), _top(parent, later)
        parent[max(a, b)] = min(a, b)
    return Groups(tuple(_top(parent, place) for place in range(len(texts))), tuple(pairs))


def shingles(text: str) -> frozenset[int]:
    """The word trigrams of a text as 64-bit hashes; a text of fewer words is one shingle."""
    words = words_of(text)
    cut = [" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))]
    return frozenset(hash64(one) for one in cut) if words else frozenset()


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """|A ∩ B| / |A ∪ B|; 0 where both are empty."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def hash64(text: str) -> int:
    """A 64-bit hash that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _similar(sets: dict[int, frozenset[int]], threshold: float) -> Iterable[tuple[int, int, float]]:
    seen: set[tuple[int, int]] = set()
    for bucket in _buckets(sets, _rows(threshold)):
        pairs = ((a, b) for i, a in enumerate(bucket[:CROWD]) for b in bucket[i + 1 : None if i == 0 else CROWD])
        for pair in pairs:
            if pair in seen:
                continue
            seen.add(pair)
            similarity = jaccard(sets[pair[0]], sets[pair[1]])
            if similarity >= threshold:
                yield (*pair, similarity)


def _rows(threshold: float) -> int:
    """Rows of a band."""
    return max(r for r in range(1, HASHES) if r == 1 or (1 - threshold**r) ** (HASHES // r) <= MISSED)


def _buckets(sets: dict[int, frozenset[int]], rows: int) -> Iterable[list[int]]:
    """Texts that agree in every row of some band, in order."""
    generator = np.random.Generator(np.random.PCG64(0))
    factors, addends = generator.integers(0, 2**63, (2, HASHES), dtype=np.uint64) | np.uint64(1)
    signatures = {place: _signature(found, factors, addends) for place, found in sets.items() if found}
    for band in range(HASHES // rows):
        buckets: dict[bytes, list[int]] = {}
        for place, signature in signatures.items():
            buckets.setdefault(signature[band * rows : (band + 1) * rows].tobytes(), []).append(place)
        yield from (bucket for bucket in buckets.values() if len(bucket) > 1)


def _signature(found: frozenset[int], factors: NDArray[np.uint64], addends: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The least of each of HASHES hashes (multiply-shift, Dietzfelbinger et al. 1997) over a text's shingles."""
    values = np.fromiter(found, np.uint64, len(found))
    return ((values[:, None] * factors + addends) >> np.uint64(32)).min(axis=0)


def _top(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place
