"""Duplicates and near duplicates equal those of an exact comparison of all pairs."""

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhenlong.data.duplicates import exact_duplicates, jaccard, near_duplicates, normalised_words, shingles

VOCABULARY = [f"word{i}" for i in range(400)]


def sentence(generator, length):
    return [generator.choice(VOCABULARY) for _ in range(length)]


def with_changes(generator, words, changes):
    changed = list(words)
    for place in generator.sample(range(len(words)), changes):
        changed[place] = f"other{generator.randrange(10**9)}"
    return changed


@pytest.fixture(scope="module")
def texts():
    """Sixty texts, and copies of them with zero to four words changed, shuffled."""
    generator = random.Random(0)
    made = []
    for _ in range(60):
        words = sentence(generator, generator.randint(30, 90))
        made += [
            " ".join(with_changes(generator, words, generator.randint(0, 4))) for _ in range(generator.randint(1, 3))
        ]
    generator.shuffle(made)
    return made


def by_hand(text):
    words = text.lower().split()
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_the_pairs_equal_those_of_comparing_all_texts(texts, threshold):
    sets = [by_hand(text) for text in texts]
    every = {
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= threshold and sets[i] != sets[j]
    }
    assert every
    found = near_duplicates(texts, threshold)
    first_of = exact_duplicates(texts).first_index
    assert {(i, j) for i, j, _ in found.pairs} == {(i, j) for i, j in every if first_of[i] == i and first_of[j] == j}
    for i, j, similarity in found.pairs:
        assert similarity == pytest.approx(len(sets[i] & sets[j]) / len(sets[i] | sets[j]))


def test_groups_are_connected_components(texts):
    found = near_duplicates(texts)
    for i, j, _ in found.pairs:
        assert found.first_index[i] == found.first_index[j]
    sets = [shingles(text) for text in texts]
    for place, first in enumerate(found.first_index):
        assert first <= place
        if first != place:
            assert any(jaccard(sets[place], other) >= 0.8 for i, other in enumerate(sets) if i != place)
    assert found.num_duplicates == len(texts) - len(set(found.first_index))


def test_exact_duplicates_ignore_case_and_punctuation():
    assert exact_duplicates(["A cat.", "a  CAT!", "a dog", "?!", "?!", "!?"]).first_index == (0, 0, 2, 3, 3, 5)


def test_many_copies_of_one_text_are_one_group():
    assert near_duplicates(["the same old story again and again"] * 300).num_duplicates == 299


def test_many_near_duplicates_are_one_group():
    generator = random.Random(1)
    words = sentence(generator, 60)
    crowd = [" ".join([*words, f"end{i}"]) for i in range(200)]
    assert near_duplicates(crowd).num_duplicates == 199


@given(st.lists(st.text("ab \n", max_size=12), max_size=12))
@settings(deadline=None)
def test_a_group_is_represented_by_its_first_text(texts):
    for groups in (exact_duplicates(texts), near_duplicates(texts)):
        assert all(groups.first_index[first] == first <= place for place, first in enumerate(groups.first_index))


def test_a_chinese_character_is_a_word():
    assert normalised_words("我喜欢 Python3，你呢？") == ["我", "喜", "欢", "python3", "你", "呢"]
