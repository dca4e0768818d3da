"""Aggregation: trials are averaged, the worst case follows each measure's direction, failures enter no mean."""

import math
from dataclasses import replace

import pytest

from zhenlong.evaluate.metrics.registry import Measure, Metric
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval
from zhenlong.inference.requests import GeneratedOutput, RequestCost


class Made(Scenario):
    """A scenario with the test's own metrics, which are not registered."""

    def bind_metrics(self):
        return [(one, one.function) for one in METRICS]


def length(outcome):
    return {"right": float(outcome.text == "yes"), "error": float(len(outcome.text)), "words": 1.0}


def share(scored):
    said = [one.scores["right"] for one in scored]
    return {"corpus_share": Interval(sum(said) / len(said), (0.0, 1.0), len(said))}


MEASURES = (Measure("right"), Measure("error", higher_is_better=False), Measure("words", higher_is_better=None))
METRICS = [
    Metric("length", "instance", MEASURES, length),
    Metric("share", "corpus", (Measure("corpus_share", "calibration"),), share),
]
SCENARIO = Made("made", "Made up", "none.jsonl", ({"using": "question_answer"},), ("length",), "right")


def outcome(id_, text, perturbation="", trial=0, shots=0, failed="", cost=None, **groups):
    instance = Instance(str(id_), "question", (Reference("yes"),), groups=groups, perturbation=perturbation)
    outputs = () if failed else (GeneratedOutput(text),)
    return Outcome(instance, outputs, trial=trial, shots=shots, failed=failed, cost=cost)


def numbers(outcomes, **options):
    results, _ = aggregate(SCENARIO, outcomes, model="m", **options)
    return {(one.measure, one.shots, one.perturbation, one.group): one for one in results}


def test_every_result_names_its_model_scenario_and_category():
    found = numbers([outcome(0, "yes"), outcome(1, "nope")])
    right = found["right", 0, "", ""]
    assert (right.model, right.scenario, right.category, right.main) == ("m", "made", "accuracy", True)
    assert right.value == mean_interval([1.0, 0.0])
    assert found["corpus_share", 0, "", ""].category == "calibration"
    assert [one.main for one in found.values()].count(True) == 1
    assert found["words", 0, "", ""].higher_is_better is None


def test_an_instances_value_is_the_mean_of_its_trials_and_counts_once():
    found = numbers([outcome(0, "yes"), outcome(0, "no", trial=1), outcome(1, "yes"), outcome(1, "yes", trial=1)])
    assert found["right", 0, "", ""].value.mean == pytest.approx(0.75)
    assert found["right", 0, "", ""].value.n == 2


def test_a_corpus_measure_is_the_mean_of_its_trials():
    found = numbers([outcome(0, "yes"), outcome(0, "no", trial=1), outcome(1, "yes"), outcome(1, "yes", trial=1)])
    assert found["corpus_share", 0, "", ""].value == Interval(0.75, (0.0, 1.0), 2)


def test_failed_outcomes_are_counted_and_enter_no_mean():
    outcomes = [
        outcome(0, "yes"),
        outcome(1, "", failed="timed out"),
        outcome(2, "", failed="x"),
        outcome(2, "yes", trial=1),
    ]
    found = numbers(outcomes)["right", 0, "", ""]
    assert (found.value.mean, found.value.n, found.failed) == (1.0, 2, 1)  # 2 has an answer in its second trial


def test_the_main_measure_is_reported_if_every_instance_failed():
    found = numbers([outcome(0, "", failed="no")])["right", 0, "", ""]
    assert (found.value.n, found.failed, found.main, found.higher_is_better) == (0, 1, True, True)
    assert math.isnan(found.value.mean)


def test_groups_divide_the_instances():
    found = numbers([outcome(0, "yes", topic="a"), outcome(1, "no", topic="b"), outcome(2, "", failed="x", topic="b")])
    assert found["right", 0, "", "topic=a"].value.mean == 1.0
    assert found["right", 0, "", "topic=b"].value.mean == 0.0
    assert found["right", 0, "", "topic=b"].failed == 1
    assert ("corpus_share", 0, "", "topic=a") in found


def test_the_worst_case_is_per_instance_in_each_measures_direction():
    outcomes = [
        outcome(0, "yes"),
        outcome(0, "maybe", "typos"),
        outcome(1, "no"),
        outcome(1, "yes", "spacing"),
        outcome(0, "yes, sir", "dialect"),
    ]
    found = numbers(outcomes)
    robust = {name: found[name, 0, "worst_case/robustness", ""].value.mean for name in ("right", "error")}
    assert robust == {"right": 0.0, "error": (5 + 3) / 2}  # the longest where less is better: "maybe" and "yes"
    assert found["error", 0, "worst_case/fairness", ""].value.mean == (8 + 2) / 2  # 1 has no copy: its original stands
    assert found["right", 0, "worst_case/robustness", ""].category == "robustness"
    assert found["right", 0, "dialect", ""].category == "fairness"
    assert ("words", 0, "worst_case/robustness", "") not in found  # no direction, no worst


def test_the_worst_case_leaves_out_instances_whose_original_failed():
    outcomes = [outcome(0, "", failed="x"), outcome(0, "no", "typos"), outcome(1, "yes"), outcome(1, "yes", "typos")]
    found = numbers(outcomes)["right", 0, "worst_case/robustness", ""]
    assert (found.value.mean, found.value.n, found.failed) == (1.0, 1, 1)


def test_an_unknown_perturbation_needs_its_kind():
    with pytest.raises(ValueError, match="backwards"):
        numbers([outcome(0, "yes"), outcome(0, "yes", "backwards")])
    found = numbers([outcome(0, "yes"), outcome(0, "no", "backwards")], perturbation_kinds={"backwards": "fairness"})
    assert found["right", 0, "worst_case/fairness", ""].value.mean == 0.0


def test_numbers_of_shots_are_separate_results():
    found = numbers([outcome(0, "yes", shots=0), outcome(0, "no", shots=5)])
    assert found["right", 0, "", ""].value.mean == 1.0
    assert found["right", 5, "", ""].value.mean == 0.0


def test_costs_are_of_the_unperturbed_requests():
    cost = RequestCost(0.5, 10, 2, 1e6, 100)
    found = numbers([outcome(0, "yes", cost=cost), outcome(1, "yes", cost=RequestCost(1.5, 10, 4, 3e6, 300)),
                     outcome(0, "yes", "typos", cost=RequestCost(99.0, 1, 1))])  # fmt: skip
    value = {name: found[name, 0, "", ""].value.mean for name in ("seconds_per_request", "tokens_per_second")}
    assert value == {"seconds_per_request": 1.0, "tokens_per_second": 26 / 2}
    assert found["generated_tokens_per_second", 0, "", ""].value.mean == 6 / 2
    assert found["flops_per_request", 0, "", ""].value.mean == 2e6
    assert found["peak_memory", 0, "", ""].value.mean == 300
    assert found["peak_memory", 0, "", ""].higher_is_better is False


def test_a_count_that_is_always_one_is_no_proportion():
    found = numbers([outcome(number, "yes", cost=RequestCost(0.5, 10, 1)) for number in range(20)])
    assert not found["generated_tokens", 0, "", ""].value.is_known


def test_times_have_as_many_observations_as_batches_and_no_interval():
    costs = [RequestCost(0.5 + number / 100, 10, number, batch_size=8) for number in range(40)]
    found = numbers([outcome(number, "yes", cost=cost) for number, cost in enumerate(costs)])
    for name in ("seconds_per_request", "tokens_per_second", "generated_tokens_per_second"):
        assert (found[name, 0, "", ""].value.n, found[name, 0, "", ""].value.is_known) == (5, False)
    assert found["generated_tokens", 0, "", ""].value.is_known


def test_instances_of_one_cluster_and_trials_of_an_instance_are_one_observation():
    def passages(shared):
        return [
            replace(one, instance=replace(one.instance, cluster=f"passage {number // 4}" if shared else ""))
            for number in range(80)
            for one in [outcome(number, "yes" if number % 8 < 4 else "no")]
        ]

    apart, together = (numbers(passages(shared))["right", 0, "", ""].value for shared in (False, True))
    assert (apart.clusters, together.clusters, together.n) == (0, 20, 80)
    assert together.ci95[1] - together.ci95[0] > 1.8 * (apart.ci95[1] - apart.ci95[0])
    trials = [outcome(number, "yes" if number % 2 else "no", trial=trial) for number in range(80) for trial in range(4)]
    assert numbers(trials)["right", 0, "", ""].value.ci95 == apart.ci95


def test_a_value_that_is_not_finite_is_left_out_with_a_warning(monkeypatch):
    monkeypatch.setitem(globals(), "METRICS", [
        Metric("length", "instance", MEASURES, lambda one: {"right": math.nan if one.text == "no" else 1.0})
    ])  # fmt: skip
    with pytest.warns(UserWarning, match="right: 1 values are not finite"):
        assert numbers([outcome(0, "yes"), outcome(1, "no")])["right", 0, "", ""].value.n == 1


def test_two_metrics_must_not_define_the_same_measure(monkeypatch):
    monkeypatch.setitem(globals(), "METRICS", [METRICS[0], METRICS[0]])
    with pytest.raises(ValueError, match="two metrics define the measure"):
        numbers([outcome(0, "yes")])


def test_a_judged_metric_sees_the_outcomes_that_did_not_fail_and_its_judgement_is_recorded(monkeypatch):
    def judged(outcomes, judge):
        assert judge == "the judge"
        return [ScoredOutcome(one, {"right": 7.0}, {"said": one.text}) for one in reversed(outcomes)]

    monkeypatch.setitem(globals(), "METRICS", [Metric("judged", "judged", MEASURES, judged)])
    outcomes = [outcome(0, "a"), outcome(1, "", failed="x"), outcome(2, "b")]
    results, records = aggregate(SCENARIO, outcomes, model="m", judge="the judge")
    assert results[0].value.mean == 7.0
    assert [one.judgement for one in records] == [{"said": "a"}, {}, {"said": "b"}]
    assert [one.failed for one in records] == ["", "x", ""]


def test_records_hold_prompt_and_outputs():
    instance = Instance("7", "question", (Reference("yes"), Reference("no", False)), groups={"topic": "a"})
    one = Outcome(
        instance, (GeneratedOutput("yes", turns=("later",)),), prompt="Q: question", cost=RequestCost(0.5, 3, 1)
    )
    _, (record,) = aggregate(SCENARIO, [one], model="m")
    assert (record.id, record.prompt, record.outputs, record.turns) == ("7", "Q: question", ("yes",), ("later",))
    assert record.references == ({"text": "yes", "correct": True}, {"text": "no", "correct": False})
    assert record.scores["right"] == 1.0
    assert record.cost == {"seconds": 0.5, "prompt_tokens": 3, "generated_tokens": 1}
