"""The corpus: consistent with the facts, closed vocabulary, no chat, deterministic given the seed."""

import re
from collections import Counter

import pytest

from zhenlong.world import World
from zhenlong.world.facts import PERSON_ATTRIBUTES, TOWN_ATTRIBUTES, make_facts
from zhenlong.world.vocabulary import OPPOSITES, PEOPLE, TOWNS

MOST_WORD_FORMS = 750


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z']+", text)


def test_every_person_and_town_has_every_fact_and_values_are_equally_common():
    facts = make_facts(0)
    for table, values in ((facts.people, PERSON_ATTRIBUTES), (facts.towns, TOWN_ATTRIBUTES)):
        for attribute, allowed in values.items():
            counts = Counter(table[attribute].values())
            assert set(counts) == set(allowed)
            assert len(set(counts.values())) == 1
    assert set(facts.people["home"]) == set(PEOPLE)
    assert set(facts.towns["river"]) == set(TOWNS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_job_and_a_town_identify_one_person(seed: int):
    facts = make_facts(seed)
    assert len(facts.job_holder) == len(PEOPLE)
    for (job, town), name in facts.job_holder.items():
        assert (facts.people["job"][name], facts.people["home"][name]) == (job, town)


def test_facts_depend_on_the_seed():
    assert make_facts.__wrapped__(3) == make_facts(3)
    assert make_facts(3).people != make_facts(4).people


def test_documents_depend_on_their_seed_only():
    assert World(0).documents(50, seed=5) == World(0).documents(50, seed=5)
    assert World(0).documents(50, seed=5) != World(0).documents(50, seed=6)
    assert World(0).documents(50) != World(1).documents(50)


@pytest.mark.parametrize("style", ["mixed", "facts"])
def test_documents_are_paragraphs(style: str):
    lengths = [len(document.text.split()) for document in World(0).documents(2000, style=style)]
    assert min(lengths) >= 20
    assert max(lengths) <= 120
    assert 40 <= sum(lengths) / len(lengths) <= 80


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="style"):
        World(0).documents(1, style="poems")


def test_the_corpus_contains_no_chat():
    for document in World(0).documents(3000):
        assert not re.search(r"\b(?:user|assistant|human)\b|<\|", document.text, re.IGNORECASE)
        assert not re.search(r"cannot help|will not help|can't", document.text, re.IGNORECASE)
        # a question is a greeting or rhetorical: no document asks for a fact
        assert not re.search(r"\b(?:Where|Which|What|Who)\b[^.!]*\b(?:is|does) [A-Z][a-z]+[^.!]*\?", document.text)


def test_the_vocabulary_of_all_texts_is_small_and_closed():
    def seen(seed: int) -> set[str]:
        world = World(0)
        text = [document.text for document in world.documents(5000, seed)]
        for split in ("train", "heldout"):
            for row in world.demonstrations(5000, seed, split):
                text += [message.content for message in row.messages]
        return {word for line in text for word in words(line)}

    first = seen(0)
    assert len(first) <= MOST_WORD_FORMS
    assert len(seen(1) - first) <= 5  # the rarest forms may be missing from one of two samples


@pytest.mark.parametrize(
    ("attribute", "pattern"),
    [
        ("home", r"([A-Z][a-z]+) (?:lives in(?: the town of)?|comes from|has a house in) ([A-Z][a-z]+)"),
        ("job", r"([A-Z][a-z]+) (?:works as a|wants to stay a) ([a-z]+)"),
        ("pet", r"The pet of ([A-Z][a-z]+) is a ([a-z]+)"),
        ("food", r"The favourite food of ([A-Z][a-z]+) is ([a-z]+)"),
        ("colour", r"The favourite colour of ([A-Z][a-z]+) is ([a-z]+)"),
        ("hobby", r"The hobby of ([A-Z][a-z]+) is ([a-z]+)"),
    ],
)
def test_the_corpus_states_true_facts_about_people(attribute: str, pattern: str):
    facts = make_facts(0)
    claims = 0
    for document in World(0).documents(4000):
        text = re.sub(r"not true that [^.]*\.", "", document.text)
        for name, value in re.findall(pattern, text):
            if name in PEOPLE:
                claims += 1
                assert facts.people[attribute][name] == value
    assert claims > 100


def test_statements_called_untrue_are_false():
    facts = make_facts(0)
    denied = [
        pair
        for document in World(0).documents(4000)
        for pair in re.findall(r"not true that ([A-Z][a-z]+) lives in ([A-Z][a-z]+)", document.text)
    ]
    assert denied
    assert all(facts.people["home"][name] != town for name, town in denied)


def test_every_fact_is_stated_somewhere():
    facts = make_facts(0)
    stated = set()
    for document in World(0).documents(5000, style="facts"):
        stated.update(re.findall(r"The (\w+) of (\w+) is (\w+)\.", document.text))
        stated.update(("home", name, town) for name, town in re.findall(r"(\w+) lives in (\w+)", document.text))
    assert {(job, town, name) for (job, town), name in facts.job_holder.items()} <= stated
    assert {("home", name, town) for name, town in facts.people["home"].items()} <= stated


def test_sums_lists_and_opposites_in_the_corpus_are_correct():
    sums = reversals = opposites = 0
    for document in World(0).documents(4000):
        for a, sign, b, c in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", document.text):
            assert int(c) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
            sums += 1
        for text, back in re.findall(r"The words ([a-z ]+) backwards are ([a-z ]+)\.", document.text):
            assert back.split() == text.split()[::-1]
            reversals += 1
        for word, other in re.findall(r"The opposite of (\w+) is (\w+)", document.text):
            assert OPPOSITES[word] == other
            opposites += 1
    assert min(sums, reversals, opposites) > 50


def test_closed_book_items_have_one_correct_choice_at_every_position():
    world = World(0)
    items = world.closed_book(600, seed=1)
    assert items == world.closed_book(600, seed=1)
    assert {item.answer for item in items} == {0, 1, 2, 3}
    assert len({item.family for item in items}) == 10
    for item in items:
        assert len(set(item.choices)) == 4
        assert all(choice.startswith(" ") for choice in item.choices)
        if item.family == "home":
            name = re.search(r"of (\w+) is", item.prompt).group(1)
            assert item.choices[item.answer] == " " + world.facts.people["home"][name]
