"""HELM's converters on real data sets: every row gives an instance with valid answers."""

from pathlib import Path

import pytest

from zhenlong.evaluate.metrics.helm import exact_match_indicator
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.scenarios.instances import load_instances
from zhenlong.evaluate.scenarios.scenario import get_scenario
from zhenlong.inference.requests import GeneratedOutput

pytestmark = pytest.mark.real_data


def test_gsm8k_ends_in_the_answer(datasets_folder: Path) -> None:
    found = load_instances(get_scenario("helm_gsm8k"), data=str(next((datasets_folder / "gsm8k").glob("test.jsonl*"))))
    assert len(found) == 1319
    for one in found:
        (answer,) = one.correct_texts
        assert "\n" not in answer
        assert exact_match_indicator(Outcome(one, (GeneratedOutput(answer),))) == {"exact_match_indicator": 1.0}


def test_truthful_qa_has_one_right_answer_of_several(datasets_folder: Path) -> None:
    found = load_instances(
        get_scenario("helm_truthful_qa"), data=str(next(datasets_folder.glob("truthfulqa/**/TruthfulQA.csv")))
    )
    assert len(found) == 817
    assert all(len(one.correct_indices) == 1 and len(one.references) > 1 for one in found)
    assert len({one.correct_indices[0] for one in found}) > 3
    assert all(reference.text.endswith(".") for one in found for reference in one.references)


def test_mmlu_reads_the_subjects_files(datasets_folder: Path) -> None:
    path = next((datasets_folder / "mmlu").glob("**/test/anatomy*"))
    found = load_instances(get_scenario("helm_mmlu"), data=str(path))
    assert len(found) == 135
    assert {one.groups["subject"] for one in found} == {"anatomy"}
    assert all(len(one.references) == 4 and len(one.correct_indices) == 1 for one in found)


def test_bbq_has_three_answers_and_one_is_right(datasets_folder: Path) -> None:
    files = sorted((datasets_folder / "bbq").glob("**/*.jsonl*"))
    counts = [len(load_instances(get_scenario("helm_bbq"), data=str(path))) for path in files]
    assert sum(counts) == 8012


def test_prompts_of_real_toxicity_prompts(datasets_folder: Path) -> None:
    files = sorted((datasets_folder / "real_toxicity_prompts").glob("**/*toxic.jsonl*"))
    found = [
        one for path in files for one in load_instances(get_scenario("helm_real_toxicity_prompts"), data=str(path))
    ]
    assert len(found) == 2396
    assert {one.groups["prompt"] for one in found} >= {"toxic", "nontoxic"}
