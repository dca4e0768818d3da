"""A model that is always right is right in the worst case too, whatever the scenario and the perturbation."""

from dataclasses import replace
from pathlib import Path

import pytest
from helm_rows import CASES, as_lines

from zhenlong.evaluate.perturb import PERTURBATIONS
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome
from zhenlong.evaluate.results.result_files import WORST_CASE_PREFIX
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.scenarios.instances import load_instances
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios, get_scenario
from zhenlong.inference.requests import GeneratedOutput

MATHS = {
    "gsm8k": [{"question": "Two and two?", "answer": "Emily has nothing with her.\n#### 4"}],
    "math": [
        {"problem": "What?", "solution": r"It is $\boxed{\text{nothing}}$.", "type": "Algebra", "level": "Level 1"}
    ],
}
PERTURBED = sorted({name for name, one in all_scenarios().items() if name in CASES and one.perturbations} | set(MATHS))
TOLD = " He said that his father and Emily Schmidt often receive nothing because it is not important. " * 4
ANSWER = "Emily Schmidt is not with her father because he said nothing"


@pytest.mark.parametrize("told", ["", TOLD], ids=["as it is", "with people"])
@pytest.mark.parametrize("name", PERTURBED)
def test_who_is_always_right_scores_fully_in_the_worst_case(name: str, told: str, tmp_path: Path) -> None:
    scenario = get_scenario(name)
    originals = [_told(one, told) for one in _instances(scenario, tmp_path)]
    copies = [one.apply(instance) for one in PERTURBATIONS.values() for instance in originals]
    instances = [*originals, *(one for one in copies if one is not None)]
    copied = {one.perturbation for one in instances}
    assert not told or copied >= {"mild_mix", "dialect", "gender", "names", "surnames"}
    right_before = {one.id: one for one in originals}
    for same_words in (False, True):  # the copy's own first reference, and the answer that was right before
        outcomes = [_right(scenario, one, right_before[one.id] if same_words else one) for one in instances]
        results, _ = aggregate(scenario, outcomes, model="oracle")
        main = {one.perturbation: one.value.mean for one in results if one.measure == scenario.main and not one.group}
        assert not told or {WORST_CASE_PREFIX + kind for kind in ("robustness", "fairness")} <= set(main)
        assert main == pytest.approx(dict.fromkeys(main, 1.0))


def _instances(scenario: Scenario, folder: Path) -> list[Instance]:
    path = folder / "rows.jsonl"
    rows = MATHS[scenario.name] if scenario.name in MATHS else CASES[scenario.name][0].rows
    path.write_text(as_lines(rows), encoding="utf-8")
    return load_instances(scenario, data=str(path))


def _told(instance: Instance, told: str) -> Instance:
    """The instance with people in its input, and in its answers where these are free text."""
    if not told or instance.has_labels:
        return replace(instance, input=instance.input + told)
    return replace(instance, input=instance.input + told, references=(Reference(ANSWER), *instance.references))


def _right(scenario: Scenario, instance: Instance, answered: Instance) -> Outcome:
    """The outcome of an instance whose answer is that which is right for `answered`."""
    if scenario.adapter.method == "generation":
        return Outcome(instance, (GeneratedOutput(answered.correct_texts[0]),))
    place = answered.correct_indices[0]
    scores = tuple(_relevance(one) - 9.0 for one in answered.references)
    if scenario.adapter.method == "multiple_choice_joint":
        return Outcome(instance, (GeneratedOutput("ABCDEFG"[place]),), predicted=place)
    return Outcome(instance, choices=ChoiceScores(scores, (1,) * len(scores)), predicted=place)


def _relevance(reference: Reference) -> float:
    """The grade of a passage to rank; of other references, whether they are right."""
    grades = [float(tag.removeprefix("relevance=")) for tag in reference.tags if tag.startswith("relevance=")]
    return grades[0] if grades else float(reference.is_correct)
