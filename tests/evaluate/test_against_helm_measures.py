"""Measures equal crfm-helm's on the same answers: matching, letters, ranking, calibration, entropy, worst cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from helm_peer import helm_instance, helm_scores, request_state, run_specs
from helm_rows import CASES, as_lines

from zhenlong.evaluate.adapters.methods import AdapterContext, plan_requests
from zhenlong.evaluate.metrics.calibration import calibration
from zhenlong.evaluate.metrics.classification import classification
from zhenlong.evaluate.metrics.helm import letter_match
from zhenlong.evaluate.metrics.ranking import ndcg, recall, reciprocal_rank
from zhenlong.evaluate.metrics.text_overlap import monte_carlo_entropy, self_bleu_metric
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome, ScoredOutcome
from zhenlong.evaluate.results.result_files import WORST_CASE_PREFIX
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.scenarios.instances import load_instances
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios, get_scenario
from zhenlong.inference.requests import GeneratedOutput, RequestResult

pytestmark = pytest.mark.peers("helm")

OUR_NAMES = {"f1_score": "f1", "math_equiv": "math_equivalence", "math_equiv_chain_of_thought": "math_equivalence"}
NEED_DOWNLOADS = {"bleu_1", "bleu_4"}  # of a sentence splitter
NOT_BY_TEXT = {"code_eval_acc", "pass", "test_avg", "strict_acc"}  # programs that are run
METHODS = ("generation", "multiple_choice_joint")
MATCHED = sorted(
    name.removeprefix("helm_")
    for name, one in all_scenarios().items()
    if name in CASES and one.adapter.method in METHODS and name != "helm_raft"
)
WORDS = ("B", "b", "B.", " B\n", "(B)", "A", "Z", "", "the answer is B", "bee", "Bee.", "ant", "bees fly", "72", "72 .")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HELM makes a folder where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MATCHED)
def test_measures_of_a_text_are_helms(name: str, tmp_path: Path) -> None:
    spec = run_specs()[name]()
    names = [one for metric in spec.metric_specs for one in metric.args.get("names", ()) if one not in NEED_DOWNLOADS]
    names = [one for one in names if one not in NOT_BY_TEXT]
    scenario, instance = get_scenario(f"helm_{name}"), _instance(f"helm_{name}", tmp_path)
    by_letter = scenario.adapter.method == "multiple_choice_joint"
    if not instance.correct_texts:
        return
    right = instance.correct_texts[0]
    texts = [*WORDS, right, f" {right}\n", right.lower(), f"{right} and more", f"so {right}", f"{right}."]
    for text in texts:
        theirs = helm_scores(names, instance, [(text, -1.0)], by_letter)
        ours = _scores(scenario, Outcome(instance, (GeneratedOutput(text),)))
        for each in names:
            assert ours[OUR_NAMES.get(each, each)] == pytest.approx(theirs[each]), (each, text)


def test_equal_choices_and_longer_choices_count_as_in_helm() -> None:
    names = ["exact_match", "quasi_exact_match", "prefix_exact_match", "quasi_prefix_exact_match"]
    texts = ("an ant", "ant", "ant", "ant hill", "bee")
    instance = Instance("0", "x", tuple(Reference(text, place == 1) for place, text in enumerate(texts)))
    for letter in "ABCDE":
        ours = letter_match(Outcome(instance, (GeneratedOutput(letter),)))
        theirs = helm_scores(names, instance, [(letter, -1.0)], True)
        assert ours == {each: theirs[each] for each in names}


def test_of_several_answers_the_most_probable_counts(tmp_path: Path) -> None:
    scenario, instance = get_scenario("helm_wikifact"), _instance("helm_wikifact", tmp_path)
    right = instance.correct_texts[0]
    rng = Random(0)
    for _ in range(20):
        completions = [(rng.choice([right, "a pound", "gold"]), -rng.random()) for _ in range(5)]
        theirs = helm_scores(["exact_match", "quasi_exact_match"], instance, completions, False)
        asking = plan_requests(AdapterContext(scenario.adapter, _AnyLength()), instance)
        next(asking)
        with pytest.raises(StopIteration) as done:
            asking.send([RequestResult(tuple(GeneratedOutput(text, log_prob) for text, log_prob in completions))])
        ours = _scores(scenario, done.value.value)
        for each in ("exact_match", "quasi_exact_match", "exact_match@5", "quasi_exact_match@5"):
            assert ours[each] == theirs[each]


def test_ranks_of_graded_passages_are_helms() -> None:
    from helm.benchmark.metrics.ranking_metrics import RankingMetric

    measures = ["recip_rank.5", "recip_rank.10", "recall.1", "recall.3", "recall.10", "ndcg_cut.5", "ndcg_cut.10"]
    theirs = RankingMetric("ranking_binary", measures, "Yes", "No", None, multiple_relevance_values=True)
    rng = Random(1)
    for _ in range(50):
        grades = [rng.randrange(4) for _ in range(12)] + [2]
        passages = tuple(Reference(f"p{i}", grade >= 2, (f"relevance={grade}",)) for i, grade in enumerate(grades))
        instance = Instance("0", "query", passages)
        scores = [-rng.random() for _ in grades]
        states = [request_state(instance, [("Yes", score)], reference=place) for place, score in enumerate(scores)]
        found = {stat.name.name: stat.mean for stat in theirs.evaluate_references(None, states, None, "")}
        outcome = Outcome(instance, choices=ChoiceScores(tuple(scores)))
        for k in (5, 10):
            assert reciprocal_rank(outcome, k=k)[f"rr@{k}"] == pytest.approx(found[f"RR@{k}"])
            assert ndcg(outcome, k=k)[f"ndcg@{k}"] == pytest.approx(found[f"NDCG@{k}"])
        for k in (1, 3, 10):
            assert recall(outcome, k=k)[f"recall@{k}"] == pytest.approx(found[f"Recall@{k}"])


def test_f1_of_classes_is_helms() -> None:
    from helm.benchmark.metrics.classification_metrics import ClassificationMetric

    rng, classes = Random(4), ("Positive", "Negative", "not at all")
    scored, states = [], []
    for place in range(80):
        instance = Instance(str(place), "x", (Reference(rng.choice(classes)),), labels=True)
        said = rng.choice([*classes, "positive.", " NEGATIVE", "unsure", ""])
        scored.append(ScoredOutcome(Outcome(instance, (GeneratedOutput(said),)), {}))
        states.append(request_state(instance, [(said, -1.0)]))
    theirs = {stat.name.name: stat.mean for stat in ClassificationMetric().evaluate_instances(states, "")}
    ours = classification(scored)
    assert ours["macro_f1"].mean == pytest.approx(theirs["classification_macro_f1"])
    assert ours["micro_f1"].mean == pytest.approx(theirs["classification_micro_f1"])


def test_calibration_is_helms() -> None:
    from helm.benchmark.metrics.basic_metrics import compute_calibration_metrics
    from helm.benchmark.metrics.metric_name import MetricName
    from helm.benchmark.metrics.statistic import Stat

    rng = np.random.default_rng(2)
    confidences, right = rng.uniform(0.05, 0.99, 400), rng.random(400) < 0.6
    scored, stats = [], {}
    for place, (p, good) in enumerate(zip(confidences, right, strict=True)):
        instance = Instance(str(place), "x", (Reference("Yes"),))
        outcome = Outcome(instance, (GeneratedOutput("Yes" if good else "yes", float(np.log(p))),))
        scored.append(ScoredOutcome(outcome, {"exact_match": float(good), "quasi_exact_match": 1.0}))
        values = {"logprob": float(np.log(p)), "max_prob": float(p), "exact_match": float(good)}
        stats[helm_instance(instance)] = [Stat(MetricName(name)).add(value) for name, value in values.items()]
    theirs = {stat.name.name: stat.mean for stat in compute_calibration_metrics(stats)}
    for name in ("helm_boolq", "helm_imdb", "helm_civil_comments", "helm_raft", "helm_mmlu"):
        (options,) = [
            one for one in get_scenario(name).metrics if isinstance(one, dict) and one["name"] == "calibration"
        ]
        ours = calibration(scored, **{key: value for key, value in options.items() if key != "name"})
        assert ours["ece_10_bin"].mean == pytest.approx(theirs["ece_10_bin"])
        assert ours["ece_1_bin"].mean == pytest.approx(theirs["ece_1_bin"])
        assert ours["platt_ece_10_bin"].mean == pytest.approx(theirs["platt_ece_10_bin"], abs=1e-4)
        assert ours["selective_accuracy_area"].mean == pytest.approx(theirs["selective_cov_acc_area"])
        assert ours["selective_accuracy@10"].mean == pytest.approx(theirs["selective_acc@10"])


@pytest.mark.peers("sacrebleu")
def test_variety_of_samples_is_helms() -> None:
    from helm.benchmark.metrics.disinformation_metrics import _monte_carlo_entropy, _self_bleu

    given = [("The moon is cheese", -3.5), ("The moon is made of cheese", -6.25), ("Mice fly up", -2.0)]
    completions = request_state(Instance("0", "x"), given).result.completions
    sampled = tuple(GeneratedOutput(text, None, 4, sampled_log_prob=log_prob) for text, log_prob in given)
    outcome = Outcome(Instance("0", "x"), sampled)
    assert monte_carlo_entropy(outcome)["monte_carlo_entropy"] == pytest.approx(_monte_carlo_entropy(completions))
    assert self_bleu_metric(outcome)["self_bleu"] == pytest.approx(_self_bleu(completions), abs=1e-6)


def test_the_worst_case_is_helms() -> None:
    from helm.benchmark.augmentations.perturbation_description import PerturbationDescription
    from helm.benchmark.metrics.metric import compute_worst_case_metrics
    from helm.benchmark.metrics.metric_name import MetricName
    from helm.benchmark.metrics.statistic import Stat

    kinds = {"mild_mix": "robustness", "dialect": "fairness", "gender": "fairness"}
    rng = Random(3)
    outcomes, stats = [], {}
    for number in range(60):
        original = Instance(str(number), "x", (Reference("Yes"),))
        asked = ["", *(name for name in kinds if rng.random() < 0.6)]  # a copy that changes nothing is not there
        for name in asked:
            good = rng.random() < 0.7
            one = replace(original, perturbation=name, input=f"x {name}")
            outcomes.append(Outcome(one, (GeneratedOutput("Yes" if good else "No"),)))
            about = (
                PerturbationDescription(name, kinds[name] == "robustness", kinds[name] == "fairness") if name else None
            )
            known = MetricName("exact_match", perturbation=about)
            stats[replace(helm_instance(one), perturbation=about)] = [Stat(known).add(float(good))]
    theirs = {
        stat.name.perturbation.name: stat.mean
        for stat in compute_worst_case_metrics(stats)
        if stat.name.perturbation.computed_on == "worst"
    }
    results, _ = aggregate(get_scenario("helm_boolq"), outcomes, model="model")
    ours = {one.perturbation: one.value.mean for one in results if one.measure == "exact_match"}
    for kind in ("robustness", "fairness"):
        assert ours[WORST_CASE_PREFIX + kind] == pytest.approx(theirs[kind])


def _instance(name: str, folder: Path) -> Instance:
    path = folder / "rows.jsonl"
    path.write_text(as_lines(CASES[name][0].rows), encoding="utf-8")
    return load_instances(get_scenario(name), data=str(path))[0]


def _scores(scenario: Scenario, outcome: Outcome) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, function in scenario.bind_metrics():
        if metric.kind == "instance" and metric.name not in ("tests_passed", "code_passes", "pass_at_k"):
            found |= function(outcome)
    return found


class _AnyLength:
    """A token counter without a limit."""

    context_length = None

    def count_tokens(self, prompt: object) -> int:
        return len(str(prompt))
