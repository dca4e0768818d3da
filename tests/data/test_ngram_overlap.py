"""Inserted overlaps are found, and the results equal a comparison of all texts."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhenlong.data.ngram_overlap import EvaluationItem, build_index, find_hits


def words(seed, count):
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(5000)}" for _ in range(count))


QUESTION = words(1, 30)
ITEMS = [
    EvaluationItem("long", (QUESTION,), (words(2, 20),)),
    EvaluationItem("short", ("What is the capital of France?",), ("Paris",)),
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"Before. {' '.join(QUESTION.split()[5:18])}, after.", [("long", False, 1)]),
        (f"Before. {' '.join(QUESTION.split()[5:17])}, after.", []),
        (QUESTION.upper().replace(" ", ",  "), [("long", True, 18)]),
        (f"x {QUESTION} y", [("long", False, 18)]),
        (words(2, 20), [("long", False, 8)]),
        ("what is the capital of FRANCE", [("short", True, 0)]),
        ("Tell me: what is the capital of France?", []),
        ("Paris", []),
        ("", []),
    ],
)
def test_an_inserted_overlap_is_found(text, found):
    assert [
        (hit.item, hit.exact, hit.shared_ngrams) for hit in find_hits("row", ["hello there", text], build_index(ITEMS))
    ] == found


def test_the_passage_is_the_first_shared_one():
    (hit,) = find_hits("row", [f"x {QUESTION}"], build_index(ITEMS))
    assert hit.passage == " ".join(QUESTION.split()[:13])
    assert hit.row == "row"


def test_ngrams_shared_by_many_items_are_ignored_and_counted():
    shared = words(3, 15)
    items = [EvaluationItem(str(i), (f"{shared} {words(100 + i, 20)}",)) for i in range(11)]
    few, many = build_index(items, max_shared_items=11), build_index(items, max_shared_items=10)
    assert many.ignored_ngrams == 3
    assert few.ignored_ngrams == 0
    assert len(find_hits("row", [shared], few)) == 11
    assert find_hits("row", [shared], many) == []
    assert [hit.item for hit in find_hits("row", [words(104, 20)], many)] == ["4"]


TEXT = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)


@given(st.lists(st.lists(TEXT, min_size=1, max_size=2), max_size=4), st.lists(TEXT, max_size=3), st.integers(1, 4))
@settings(deadline=None)
def test_hits_equal_those_of_comparing_all_texts(questions, row, n):
    items = [EvaluationItem(str(i), tuple(texts)) for i, texts in enumerate(questions)]
    found = {hit.item: hit for hit in find_hits("row", row, build_index(items, n, max_shared_items=100))}

    def grams(text):
        said = text.split()
        return [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]

    for item in items:
        theirs = {gram for text in item.questions for gram in grams(text)}
        shared = sum(gram in theirs for text in row for gram in grams(text))
        same = any(text and text in item.questions for text in row)
        assert (item.name in found) == bool(shared or same)
        if item.name in found:
            assert (found[item.name].shared_ngrams, found[item.name].exact) == (shared, same)
