"""Exact and near duplicates of texts.

Two texts are near duplicates when the Jaccard similarity |A ∩ B| / |A ∪ B| of their word trigrams reaches a threshold.
Candidates come from locality-sensitive hashing of MinHash signatures (Broder 1997; Leskovec et al., Mining of Massive
Datasets, §3.4), and the exact Jaccard similarity decides, so there are no false positives. With b bands of r rows, a
pair of similarity s is missed with probability (1 - s^r)^b; r is the largest value for which that is at most
`MAX_MISS_PROBABILITY` at the threshold. A Chinese or Japanese character counts as a word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD_PATTERN: Final = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
SHINGLE_WORDS: Final = 3  # words per shingle
NUM_HASHES: Final = 128
MAX_MISS_PROBABILITY: Final = 1e-4
NEAR_DUPLICATE_THRESHOLD: Final = 0.8
MAX_BUCKET_COMPARISONS: Final = (
    64  # members of a bucket compared pairwise; further ones are compared with the first only
)


@dataclass(frozen=True)
class DuplicateGroups:
    """For each text the index of the first text of its group (its own if it is the first), and the pairs found."""

    first_index: tuple[int, ...]
    pairs: tuple[tuple[int, int, float], ...] = ()  # (earlier, later, similarity), most similar first

    @property
    def num_duplicates(self) -> int:
        """How many texts are not the first of their group."""
        return sum(place != first for place, first in enumerate(self.first_index))


def normalised_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return WORD_PATTERN.findall(text.lower())


def exact_duplicates(texts: Sequence[str]) -> DuplicateGroups:
    """Texts with the same words in the same order, ignoring punctuation, case and white space."""
    seen: dict[str, int] = {}
    return DuplicateGroups(
        tuple(seen.setdefault(" ".join(normalised_words(text)) or text, place) for place, text in enumerate(texts))
    )


def near_duplicates(texts: Sequence[str], threshold: float = NEAR_DUPLICATE_THRESHOLD) -> DuplicateGroups:
    """Texts with a Jaccard similarity of at least `threshold` to another of the group, exact duplicates included."""
    exact_groups = exact_duplicates(texts)
    originals = [place for place, first in enumerate(exact_groups.first_index) if place == first]
    shingle_sets = {place: shingles(texts[place]) for place in originals}
    pairs = sorted(_similar_pairs(shingle_sets, threshold), key=lambda pair: (-pair[2], pair[:2]))
    parent = list(exact_groups.first_index)
    for earlier, later, _ in pairs:
        a, b = _find_root(parent, earlier), _find_root(parent, later)
        parent[max(a, b)] = min(a, b)
    return DuplicateGroups(tuple(_find_root(parent, place) for place in range(len(texts))), tuple(pairs))


def shingles(text: str) -> frozenset[int]:
    """The word trigrams of a text as 64-bit hashes; a shorter text is one shingle."""
    words = normalised_words(text)
    cut = [" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))]
    return frozenset(hash64(one) for one in cut) if words else frozenset()


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """|A ∩ B| / |A ∪ B|; 0 if both are empty."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def hash64(text: str) -> int:
    """A 64-bit hash that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _similar_pairs(shingle_sets: dict[int, frozenset[int]], threshold: float) -> Iterable[tuple[int, int, float]]:
    seen: set[tuple[int, int]] = set()
    for bucket in _lsh_buckets(shingle_sets, _rows_per_band(threshold)):
        pairs = (
            (a, b)
            for i, a in enumerate(bucket[:MAX_BUCKET_COMPARISONS])
            for b in bucket[i + 1 : None if i == 0 else MAX_BUCKET_COMPARISONS]
        )
        for pair in pairs:
            if pair in seen:
                continue
            seen.add(pair)
            similarity = jaccard(shingle_sets[pair[0]], shingle_sets[pair[1]])
            if similarity >= threshold:
                yield (*pair, similarity)


def _rows_per_band(threshold: float) -> int:
    """Rows per band."""
    return max(
        r for r in range(1, NUM_HASHES) if r == 1 or (1 - threshold**r) ** (NUM_HASHES // r) <= MAX_MISS_PROBABILITY
    )


def _lsh_buckets(shingle_sets: dict[int, frozenset[int]], rows_per_band: int) -> Iterable[list[int]]:
    """Texts with equal signatures in all rows of some band, in order."""
    generator = np.random.Generator(np.random.PCG64(0))
    factors, addends = generator.integers(0, 2**63, (2, NUM_HASHES), dtype=np.uint64) | np.uint64(1)
    signatures = {place: _minhash_signature(found, factors, addends) for place, found in shingle_sets.items() if found}
    for band in range(NUM_HASHES // rows_per_band):
        buckets: dict[bytes, list[int]] = {}
        for place, signature in signatures.items():
            buckets.setdefault(signature[band * rows_per_band : (band + 1) * rows_per_band].tobytes(), []).append(place)
        yield from (bucket for bucket in buckets.values() if len(bucket) > 1)


def _minhash_signature(
    shingle_hashes: frozenset[int], factors: NDArray[np.uint64], addends: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """The minimum of each of HASHES hashes (multiply-shift, Dietzfelbinger et al. 1997) over a text's shingles."""
    values = np.fromiter(shingle_hashes, np.uint64, len(shingle_hashes))
    return ((values[:, None] * factors + addends) >> np.uint64(32)).min(axis=0)


def _find_root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place
