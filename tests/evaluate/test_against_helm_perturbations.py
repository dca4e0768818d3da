"""Perturbations equal crfm-helm's: the same rules, and given the same words and random numbers the same texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import pytest
from helm_peer import helm_instance

from zhenlong.evaluate.perturb import CANONICAL_PERTURBATIONS, PERTURBATIONS, fairness, robustness
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.wordlists import replacements, words_by_group

pytestmark = pytest.mark.peers("helm")

TEXT = (
    "And  he told Emily that his father, himself a doctor, cannot receive it. I am SURE that they do not know why the "
    "government is late, and He said it is not his. "
) * 6


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HELM makes a folder where it runs."""
    monkeypatch.chdir(tmp_path)


def test_the_canonical_ones_are_helms() -> None:
    from helm.benchmark.augmentations.perturbation import create_perturbation
    from helm.benchmark.run_expander import FAIRNESS_PERTURBATION_SPECS, ROBUSTNESS_PERTURBATION_SPECS

    theirs = [one.class_name.rpartition(".")[2] for one in ROBUSTNESS_PERTURBATION_SPECS + FAIRNESS_PERTURBATION_SPECS]
    assert theirs == [
        "MildMixPerturbation",
        "DialectPerturbation",
        "GenderPerturbation",
        "PersonNamePerturbation",
    ]
    assert CANONICAL_PERTURBATIONS == ("mild_mix", "dialect", "gender", "names")
    gender = create_perturbation(FAIRNESS_PERTURBATION_SPECS[1])
    assert dict(reversed(gender.word_synonym_pairs)) == fairness.FEMALE_PRONOUN  # of two for "his" the first counts


def test_contractions_and_expansions_are_helms() -> None:
    from helm.benchmark.augmentations import contraction_expansion_perturbation as theirs

    contraction, expansion = theirs.ContractionPerturbation(), theirs.ExpansionPerturbation()
    for short, long in theirs.CONTRACTION_MAP.items():
        for text in (f"so {long} it", f"{long.capitalize()} it", f"so {short} it", f"{short.capitalize()} it", long):
            assert robustness.contract(text, Random(0)) == contraction.perturb(text, Random(0))
            assert robustness.expand(text, Random(0)) == expansion.perturb(text, Random(0))


def test_case_and_spaces_are_helms_with_the_same_random_numbers() -> None:
    from helm.benchmark.augmentations.extra_space_perturbation import ExtraSpacePerturbation
    from helm.benchmark.augmentations.lowercase_perturbation import LowerCasePerturbation
    from helm.benchmark.augmentations.space_perturbation import SpacePerturbation

    for seed in range(5):
        pairs = [
            (robustness.lowercase, LowerCasePerturbation()),
            (robustness.space, SpacePerturbation(max_spaces=3)),
            (robustness.extra_space, ExtraSpacePerturbation(num_spaces=2)),
        ]
        for ours, theirs in pairs:
            assert ours(TEXT, Random(seed)) == theirs.perturb(TEXT, Random(seed))


def test_given_the_same_words_fillers_and_misspellings_are_helms(monkeypatch: pytest.MonkeyPatch) -> None:
    from helm.benchmark.augmentations import filler_words_perturbation as fillers
    from helm.benchmark.augmentations.misspelling_perturbation import MisspellingPerturbation

    words = tuple(fillers.UNCERTAIN_PHRASES + fillers.FILL_PHRASE)
    monkeypatch.setattr(robustness, "wordlist_words", lambda name: words)
    theirs = fillers.FillerWordsPerturbation(insert_prob=0.1, speaker_ph=False)
    misspelling = MisspellingPerturbation(prob=0.1)
    misspelling.correct_to_misspelling = {word: list(wrong) for word, wrong in replacements("misspellings.tsv").items()}
    ours = robustness.misspellable_pattern()
    misspelling.mispelling_pattern = re.compile(f"({ours.pattern})", ours.flags)  # HELM reads group 1
    for seed in range(5):
        assert robustness.add_fillers(TEXT, Random(seed)) == theirs.perturb(TEXT, Random(seed))
        text = TEXT.lower() * 5
        assert robustness.misspell(text, Random(seed)) == misspelling.perturb(text, Random(seed))


def test_gender_is_helms_within_a_text() -> None:
    from helm.benchmark.augmentations.gender_perturbation import GenderPerturbation

    theirs = GenderPerturbation("pronouns", 1.0, "male", "female")
    assert fairness.gender(TEXT, Random(0)) == theirs.perturb(TEXT, Random(0))
    theirs = GenderPerturbation("terms", 1.0, "male", "female")
    for male, female in theirs.word_synonym_pairs:
        if male != "grandfather":  # whose plural HELM's list lacks, so that "grandfather" becomes "grandmothers" there
            assert fairness.gender_terms(f"The {male} came.", Random(0)) == f"The {female} came."


def test_given_the_same_words_dialect_and_names_change_the_same_words(tmp_path: Path) -> None:
    from helm.benchmark.augmentations.dialect_perturbation import DialectPerturbation
    from helm.benchmark.augmentations.person_name_perturbation import PersonNamePerturbation

    words = {word: list(other) for word, other in replacements("dialect.tsv").items() if " " not in word}
    (tmp_path / "dialect.json").write_text(json.dumps(words), encoding="utf-8")
    dialect = DialectPerturbation(1.0, "SAE", "AAVE", str(tmp_path / "dialect.json"))
    text = "So, " + ", ".join(words) + " ."
    changed = [a != b for a, b in zip(text.split(), dialect.perturb(text, Random(0)).split(), strict=True)]
    ours = fairness.dialect(text, Random(0))
    assert [a != b for a, b in zip(text.split(), ours.split(), strict=True)] == changed
    assert sum(changed) > 100

    rows = [
        f"{name.lower()},first_name,race,{race},gender,{group.split()[1]}"
        for group, names in words_by_group("first_names.tsv").items()
        for race in [f"{group.split()[0]}_american"]
        for name in names
    ]
    (tmp_path / "names.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    names = PersonNamePerturbation(
        1.0, {"race": "white_american"}, {"race": "black_american"}, str(tmp_path / "names.txt")
    )
    theirs = names.apply(helm_instance(Instance("x", TEXT, (Reference("Emily"),))))
    ours_changed = PERTURBATIONS["names"].apply(Instance("x", TEXT, (Reference("Emily"),)))
    women = {name.lower() for name in words_by_group("first_names.tsv")["black female"]}
    for one in (theirs.references[0].output.text, ours_changed.references[0].text):
        assert one.lower() in women
    assert theirs.input.text.count(theirs.references[0].output.text) == TEXT.count("Emily")
    assert ours_changed.input.count(ours_changed.references[0].text) == TEXT.count("Emily")


def test_a_copy_without_a_change_is_skipped_as_in_helm() -> None:
    from helm.benchmark.augmentations.data_augmenter import DataAugmenter
    from helm.benchmark.augmentations.gender_perturbation import GenderPerturbation

    augmenter = DataAugmenter([GenderPerturbation("pronouns", 1.0, "male", "female")])
    for text in ("The sun is hot.", "So he said."):
        instance = Instance("x", text, (Reference("it was his"),))
        theirs = augmenter.generate([helm_instance(instance)], skip_unchanged=True)
        assert (PERTURBATIONS["gender"].apply(instance) is None) == (len(theirs) == 1)
