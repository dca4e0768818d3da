"""HELM's 42 scenarios, each on rows in its upstream schema: instances and metrics."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from helm_rows import CASES, Answer, Case, as_lines

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Metric
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome, ScoredOutcome
from zhenlong.evaluate.scenarios.instances import load_instances
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios, get_scenario
from zhenlong.inference.requests import GeneratedOutput, RequestCost

HELM = {name: one for name, one in all_scenarios().items() if name.startswith("helm_")}
CORE = [
    "mmlu",
    "boolq",
    "narrative_qa",
    "natural_qa_closedbook",
    "natural_qa_openbook_longans",
    "quac",
    "hellaswag",
    "openbookqa",
    "truthful_qa",
    "msmarco_regular",
    "msmarco_trec",
    "summarization_cnndm",
    "summarization_xsum",
    "imdb",
    "civil_comments",
    "raft",
]
TARGETED = [
    "the_pile",
    "twitter_aae",
    "ice",
    "blimp",
    "wikifact",
    "synthetic_reasoning",
    "synthetic_reasoning_natural",
    "babi_qa",
    "dyck_language",
    "gsm8k",
    "math_regular",
    "math_chain_of_thought",
    "apps",
    "humaneval",
    "lsat_qa",
    "legal_support",
    "entity_data_imputation",
    "entity_matching",
    "copyright_text",
    "copyright_code",
    "disinformation_reiteration",
    "disinformation_wedging",
    "bbq",
    "bold",
    "real_toxicity_prompts",
    "synthetic_efficiency",
]
EVERY = [(name, place) for name, cases in CASES.items() for place in range(len(cases))]


def test_there_are_sixteen_core_and_twenty_six_targeted_scenarios() -> None:
    core = {name for name, one in HELM.items() if "helm_core" in one.suites}
    targeted = {name for name, one in HELM.items() if "helm_targeted" in one.suites}
    assert (len(core), len(targeted)) == (16, 26)
    assert core == {f"helm_{name}" for name in CORE}
    assert targeted == {f"helm_{name}" for name in TARGETED}
    assert core | targeted == set(HELM) == set(CASES)


def test_the_page_lists_every_scenario_as_its_entry_has_it() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation" / "helm.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(" `"): cells for cells in (line.split("|") for line in page.splitlines()) if len(cells) == 9}
    for name, one in HELM.items():
        source, count, main = (cell.strip(" `") for cell in rows[name][2:5])
        assert source == "given:` (below)" or source.split("{")[0] == one.source.split("{")[0]
        assert count.replace(",", "") == (str(one.num_rows) if one.num_rows else "–")
        assert main == one.main


@pytest.mark.parametrize("name", sorted(HELM))
def test_an_entry_has_a_source_and_existing_metrics(name: str) -> None:
    one = HELM[name]
    assert "helm" in one.suites
    assert all([one.verified, one.description, one.paper, one.url, one.license])
    assert one.source.startswith(("hf:", "generated:", "given:"))
    bound = one.bind_metrics()
    assert any(_declares(metric, one.main) for metric, _ in bound)
    assert not one.adapter.shots or one.examples
    perturbed = name.removeprefix("helm_") in set(CORE) - {"summarization_cnndm", "summarization_xsum"}
    assert one.perturbations == (("robustness", "fairness") if perturbed else ())


@pytest.mark.parametrize(("name", "place"), EVERY)
def test_a_row_becomes_an_instance(name: str, place: int, tmp_path: Path) -> None:
    case = CASES[name][place]
    found = _instances(HELM[name], case, tmp_path)
    assert len(found) == (len(case.rows) if case.instances is None else case.instances)
    assert found[0].input == case.input
    assert [(one.text, one.is_correct) for one in found[0].references] == list(case.references)
    assert dict(found[0].groups) == dict(case.groups)
    assert {key: found[0].data.get(key) for key in case.data} == dict(case.data)


@pytest.mark.parametrize(("name", "place"), EVERY)
def test_the_right_answer_scores_fully_and_the_wrong_one_does_not(name: str, place: int, tmp_path: Path) -> None:
    case = CASES[name][place]
    instance = _instances(HELM[name], case, tmp_path)[0]
    assert _main(HELM[name], instance, case.right) == pytest.approx(case.best, abs=1e-9)
    assert _main(HELM[name], instance, case.wrong) == pytest.approx(case.worst, abs=1e-9)


def test_a_source_that_cannot_be_downloaded_names_the_expected_schema() -> None:
    with pytest.raises(UserError, match=r"helm_ice: .*--data.*\{text, subset, name\}"):
        load_instances(get_scenario("helm_ice"))


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("helm_boolq", {"passage": "a", "question": "b", "answer": "maybe"}, "line 1: answer: expected true or false"),
        ("helm_boolq", {"passage": "a", "answer": True}, "line 1: question: missing"),
        ("helm_raft", {"subset": "nothing", "Label": 1}, "line 1: subset: expected one of ade_corpus_v2"),
        ("helm_raft", {"subset": "overruling", "Sentence": "a", "Label": 0}, "line 1: Label: expected one of"),
        (
            "helm_openbookqa",
            {"question_stem": "a", "choices": {"text": ["x"], "label": ["A"]}, "answerKey": "C"},
            "answerKey",
        ),
        ("helm_legal_support", {"context": "a", "label": "c"}, "label: expected a or b"),
        (
            "helm_mmlu",
            {"question": "a", "choices": ["x", "y"], "answer": 2, "subject": "s"},
            "answer: 2 is no index of the 2",
        ),
        ("helm_entity_matching", {"left_name": "a", "label": 1}, "right_<column>: missing"),
    ],
)
def test_a_row_of_another_schema_is_an_error_with_its_location(name: str, row: dict, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(as_lines([row]), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_instances(get_scenario(name), data=str(path))
    assert said in str(error.value)
    assert "rows.jsonl" in str(error.value)


def _instances(one: Scenario, case: Case, folder: Path) -> list[Instance]:
    path = folder / "rows.jsonl"
    path.write_text(as_lines(case.rows), encoding="utf-8")
    found = load_instances(one, data=str(path))
    return sorted(found, key=lambda instance: instance.id)


def _main(one: Scenario, instance: Instance, answer: Answer) -> float:
    outcomes = _outcomes(one, instance, answer)
    for metric, function in one.bind_metrics():
        if metric.kind == "instance":
            scores = function(outcomes[0])
            if one.main in scores:
                return float(scores[one.main])
        elif metric.kind == "corpus":
            results = function([ScoredOutcome(outcome, {}) for outcome in outcomes])
            if one.main in results:
                return float(results[one.main].mean)
    raise AssertionError(f"{one.name}: no metric gave {one.main}")


def _outcomes(one: Scenario, instance: Instance, answer: Answer) -> list[Outcome]:
    method = one.adapter.method
    if method == "language_modelling":
        assert isinstance(answer, float)
        return [Outcome(instance, text_log_prob=answer, text_tokens=1)]
    if method == "ranking":
        assert isinstance(answer, Sequence)
        return [Outcome(instance, choices=ChoiceScores(tuple(answer)))]
    if isinstance(answer, int):
        letter = (GeneratedOutput("ABCDEFGH"[answer]),) if method == "multiple_choice_joint" else ()
        return [Outcome(instance, letter, predicted=answer)]
    if isinstance(answer, float):  # seconds for each token written, whatever was read
        lengths = [(1, 1), (4, 2), (9, 8), (30, 3)]
        return [Outcome(instance, cost=RequestCost(0.5 + answer * out, read, out)) for read, out in lengths]
    texts = [answer] if isinstance(answer, str) else answer
    return [Outcome(instance, outputs=tuple(GeneratedOutput(text) for text in texts))]


def _declares(metric: Metric, name: str) -> bool:
    try:
        metric.find_measure(name)
        return True
    except KeyError:
        return False
