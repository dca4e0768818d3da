"""Perturbations: what they change, what they keep, and determinism by instance."""

import re
from dataclasses import replace
from random import Random

import pytest

from zhenlong.evaluate.perturb import CANONICAL_PERTURBATIONS, PERTURBATIONS
from zhenlong.evaluate.perturb.fairness import FROM, GENDERS, SURNAMES_FROM, SURNAMES_TO, TO
from zhenlong.evaluate.perturb.rewriting import match_case
from zhenlong.evaluate.perturb.robustness import (
    add_fillers,
    contract,
    expand,
    extra_space,
    mild_mix,
    misspell,
    neighbouring_keys,
    replace_synonyms,
    typos,
)
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.wordlists import read_wordlist, replacements, wordlist_words, words_by_group

LONG = (
    "He and his father believe that Emily Schmidt cannot receive the address often because the government is not "
    "successful. "
) * 20
CASE = Instance("case-1", LONG, (Reference("Emily"), Reference("He is there")), turns=("He is Adam Weber.",))
CHOICES = Instance("case-1", LONG, (Reference("this"), Reference("that", False)))
SWAPS = ("gender", "gender_terms", "names", "surnames")


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_is_deterministic_and_keeps_what_identifies_the_instance(name):
    perturbation = PERTURBATIONS[name]
    once, again = perturbation.apply(CASE), perturbation.apply(CASE)
    if name == "expansions":
        assert once is None
        return
    assert once == again
    assert (once.id, once.perturbation) == (CASE.id, name)
    assert once.input != CASE.input
    assert [one.is_correct for one in PERTURBATIONS[name].apply(CHOICES).references] == [True, False]


@pytest.mark.parametrize("name", ["mild_mix", "misspellings", "spacing", "typos", "filler_words", "synonyms"])
def test_random_numbers_depend_on_the_id_and_not_on_the_order(name):
    other = Instance("case-2", LONG)
    first = PERTURBATIONS[name].apply(CASE).input
    PERTURBATIONS[name].apply(other)
    assert PERTURBATIONS[name].apply(CASE).input == first
    assert PERTURBATIONS[name].apply(other).input != first


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_nothing_to_change_is_none(name):
    assert PERTURBATIONS[name].apply(Instance("x", "4+4=8", (Reference("8"),))) is None


@pytest.mark.parametrize("name", ["dialect", *SWAPS])
def test_a_copy_whose_input_does_not_change_is_not_made(name):
    answers = (Reference("the son of Emily Schmidt said that he knew nothing"),)
    assert PERTURBATIONS[name].apply(Instance("x", "2 + 2?", answers)) is None


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_labels_and_choices_stay(name):
    for references in ((Reference("Yes"), Reference("nothing, he said", False)), (Reference("Emily said nothing"),)):
        instance = replace(CASE, references=references, labels=len(references) == 1)
        changed = PERTURBATIONS[name].apply(instance)
        assert changed is None or changed.references == references


@pytest.mark.parametrize("name", SWAPS)
def test_a_person_whom_a_choice_names_stays_in_the_input_too(name):
    words = (("his", "father", "Emily", "Schmidt")[SWAPS.index(name)],)
    asked = f"Once there was {words[0]}."
    free = Instance("x", asked, (Reference(f"it was {words[0]}"),))
    assert words[0] not in PERTURBATIONS[name].apply(free).input
    assert PERTURBATIONS[name].apply(replace(free, references=(*free.references, Reference("no", False)))) is None


@pytest.mark.parametrize("name", ["dialect", *SWAPS])
def test_an_answer_that_was_right_stays_right(name):
    changed = PERTURBATIONS[name].apply(CASE)
    assert set(CASE.references) <= set(changed.references)
    assert all(one.is_correct for one in changed.references)


def test_a_person_in_an_answer_is_swapped_only_where_the_question_names_that_person():
    answers = (Reference("Emily"), Reference("Frank"))
    changed = PERTURBATIONS["names"].apply(Instance("x", "Is it Emily?", answers))
    new = changed.input.removeprefix("Is it ").removesuffix("?")
    assert [one.text for one in changed.references] == [new, "Frank", "Emily"]


def test_robustness_leaves_references_and_fairness_changes_them():
    for one in PERTURBATIONS.values():
        assert one.rewrites_references == (one.category == "fairness")
    assert PERTURBATIONS["lowercase"].apply(CASE).references == CASE.references
    assert PERTURBATIONS["gender"].apply(CASE).references[1].text == "She is there"
    assert {name for name, one in PERTURBATIONS.items() if one.swaps_people} == set(SWAPS)
    assert set(CANONICAL_PERTURBATIONS) <= set(PERTURBATIONS)


def test_mild_mix_is_the_four_steps_in_their_order():
    mixed = mild_mix(LONG, Random("seed"))
    assert mixed == mixed.lower()
    assert "isn't" in mixed
    assert "can't" in mixed
    assert set(re.findall(" +", mixed)) == {" ", "  ", "   "}
    joined = re.sub(" +", " ", mixed)
    assert joined != contract(LONG.lower(), Random(0))  # something is misspelt
    kept = [a == b for a, b in zip(joined.split(), contract(LONG.lower(), Random(0)).split(), strict=True)]
    assert 0.85 < sum(kept) / len(kept) < 1


def test_contractions_keep_case_and_stop_at_a_clause_end():
    assert contract("It is late. I AM SURE. Yes, she is.", Random(0)) == "It's late. I'M SURE. Yes, she is."
    assert expand("It’s late. I'M sure he won't. CAN'T!", Random(0)) == "It is late. I AM sure he will not. CANNOT!"
    assert contract("the aviation is notable", Random(0)) == "the aviation is notable"  # whole words only


def test_misspellings_are_a_tenth_of_the_words_that_have_one():
    text = "receive " * 4000
    share = sum(word != "receive" for word in misspell(text, Random(1)).split()) / 4000
    assert share == pytest.approx(0.1, abs=0.02)
    assert {misspell("Receive ", Random(seed)).strip() for seed in range(60)} == {"Receive", "Recieve"}


def test_typos_hit_neighbouring_keys_only():
    keys = neighbouring_keys()
    assert all(key in keys[other] for key, near in keys.items() for other in near)
    assert set(keys["g"]) == set("ftyhvb")
    before = "The Quick brown fox. 12 " * 100
    after = typos(before, Random(3))
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed
    assert all(b.lower() in keys[a.lower()] and a.isupper() == b.isupper() for a, b in changed)


def test_dialect_replaces_a_word_the_same_way_everywhere():
    instance = Instance("d", "Because he is walking, THE dog waits.", (Reference("because of the"),))
    changed = PERTURBATIONS["dialect"].apply(instance)
    because = changed.references[0].text.split()[0]
    assert because in ("cuz", "'cause")
    assert changed.input == f"{match_case('Because', because)} he walkin, DA dog waits."
    assert PERTURBATIONS["dialect"].apply(Instance("d", "know-the-nothing-ness")) is None  # parts of hyphenated words


def test_gender_changes_pronouns_only_and_gender_terms_the_other_words():
    instance = Instance("g", "His father, the King, lost himself. He's HERE; the theme is his.")
    assert PERTURBATIONS["gender"].apply(instance).input == (
        "Her father, the King, lost herself. She's HERE; the theme is her."
    )
    assert PERTURBATIONS["gender_terms"].apply(instance).input == (
        "His mother, the Queen, lost himself. He's HERE; the theme is his."
    )


def test_surnames_are_swapped_as_names_are():
    groups = words_by_group("last_names.tsv")
    changed = PERTURBATIONS["surnames"].apply(Instance("n", " and ".join(groups[SURNAMES_FROM])))
    new = changed.input.split(" and ")
    assert len(set(new)) == len(groups[SURNAMES_FROM])
    assert set(new) <= set(groups[SURNAMES_TO])
    assert PERTURBATIONS["surnames"].apply(Instance("n", "weber, a becker")) is None


def test_fillers_stand_before_a_tenth_of_the_words():
    words = [f"word{number}" for number in range(4000)]
    spoken = add_fillers(" ".join(words), Random(1))
    assert [word for word in spoken.split() if word.startswith("word")] == words
    added = re.sub(r"word\d+", "|", spoken).replace(" ", "").split("|")
    assert sum(map(bool, added)) / len(words) == pytest.approx(0.1, abs=0.02)
    assert {one for one in added if one} <= {one.replace(" ", "") for one in wordlist_words("fillers.txt")}


def test_synonyms_replace_half_of_the_words_that_have_any():
    found = replace_synonyms("Huge " * 4000, Random(1)).split()
    assert found.count("Huge") / 4000 == pytest.approx(0.5, abs=0.03)
    assert set(found) == {"Huge", "Enormous", "Immense"}
    assert replace_synonyms("huge-hearted", Random(1)) == "huge-hearted"


def test_extra_space_doubles_every_space():
    assert extra_space("a b  c\nd", Random(1)) == "a  b    c\nd"


def test_names_keep_gender_and_stay_different():
    women = words_by_group("first_names.tsv")[f"{FROM} female"]
    changed = PERTURBATIONS["names"].apply(Instance("n", " and ".join(women), (Reference(women[0].upper()),)))
    new = changed.input.split(" and ")
    assert len(set(new)) == len(women)
    assert set(new) <= set(words_by_group("first_names.tsv")[f"{TO} female"])
    assert changed.references[0].text == new[0].upper()
    assert PERTURBATIONS["names"].apply(Instance("n", "emily, a frank todd")) is None  # words, not names


def test_word_lists_are_whole():
    names = words_by_group("first_names.tsv")
    assert all(len(set(names[f"{race} {gender}"])) >= 60 for race in (FROM, TO) for gender in GENDERS)
    assert not set(names[f"{FROM} female"]) & set(names[f"{FROM} male"])
    assert len(replacements("misspellings.tsv")) >= 150
    assert len(replacements("dialect.tsv")) >= 80
    assert len(read_wordlist("contractions.tsv")) >= 60
    assert len(replacements("synonyms.tsv")) >= 200
    surnames = words_by_group("last_names.tsv")
    assert len(set(surnames[SURNAMES_FROM])) == len(set(surnames[SURNAMES_TO])) == 64
    assert not set(surnames[SURNAMES_FROM]) & set(surnames[SURNAMES_TO])
    for name in ("misspellings.tsv", "dialect.tsv"):
        assert all(word == word.lower() and word not in other for word, other in replacements(name).items())
        assert len(replacements(name)) == len(read_wordlist(name))
    assert len(wordlist_words("adjectives.txt")) == len(set(wordlist_words("adjectives.txt"))) >= 400
    assert len(wordlist_words("professions.txt")) == len(set(wordlist_words("professions.txt"))) >= 280
    for name in ("gender_words.tsv", "surnames.tsv"):
        lists = list(words_by_group(name).values())
        assert all(len(set(one)) == 20 for one in lists)
        assert sum(map(len, lists)) == len(set().union(*lists))


def test_case_follows_the_original():
    assert [match_case(one, "'bout") for one in ("about", "About", "ABOUT")] == ["'bout", "'Bout", "'BOUT"]
    assert match_case("I", "ya") == "Ya"
