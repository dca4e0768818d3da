"""The gate fails a candidate on a significant drop beyond the allowance; errors in the rules are one line."""

import json
import math

import numpy as np
import pytest
from evaluation_folders import LOSS, corpus, random_outcomes, records, write_evaluation

from zhenlong.cli import main
from zhenlong.errors import UserError
from zhenlong.evaluate.compare.evaluated_model import load_evaluated_model
from zhenlong.evaluate.compare.gate import apply_rules, gate
from zhenlong.evaluate.compare.gate_rules import GateRule, read_rules
from zhenlong.evaluate.results.result_files import Result
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.evaluate.statistics.significance import tango_interval


@pytest.fixture
def judged(tmp_path):
    """The verdicts on two evaluations, by scenario and measure."""

    def run(a, b, *rules, **more):
        folders = [
            write_evaluation(
                tmp_path / name, scenarios if isinstance(scenarios, dict) else {"quiz": records(scenarios)}, **more
            )
            for name, scenarios in (("a", a), ("b", b))
        ]
        given = [GateRule(source=f"rule {number}", **rule) for number, rule in enumerate(rules, 1)]
        found, _ = apply_rules(given, *(load_evaluated_model(folder) for folder in folders))
        return {
            (one.measures.a.scenario, one.measures.a.measure, one.measures.a.group)[
                : 3 if one.measures.a.group else 2
            ]: one
            for one in found
        }

    return run


def spoiled(values, count):
    """The same outcomes with `count` successes turned into failures."""
    lost, left = [], count
    for value in values:
        lost.append(0.0 if value and left else value)
        left -= bool(value and left)
    return lost


def test_a_drop_significantly_larger_than_allowed_fails_and_a_smaller_one_passes(judged):
    before = random_outcomes(400, 0.7, 1)
    after = spoiled(before, 40)  # a drop of 0.10, and no gain elsewhere
    found = judged(before, after, {"allowed_drop": 0.02})["quiz", "exact_match"]
    assert found.drop == pytest.approx(0.1)
    assert found.drop_low > 0.02
    assert not found.passed
    assert judged(before, after, {"allowed_drop": 0.12})["quiz", "exact_match"].passed
    assert judged(before, after, {"allowed_drop": 0.09})["quiz", "exact_match"].passed  # not significantly more
    assert judged(after, before, {"allowed_drop": 0.0})["quiz", "exact_match"].passed


def test_the_confidence_sets_the_significance_level(judged):
    before = random_outcomes(200, 0.7, 1)
    after = spoiled(before, 8)
    assert not judged(before, after, {"allowed_drop": 0.02, "confidence": 0.8})["quiz", "exact_match"].passed
    assert judged(before, after, {"allowed_drop": 0.02, "confidence": 0.99})["quiz", "exact_match"].passed


def test_no_worse_fails_unless_a_larger_drop_can_be_excluded(judged):
    same = random_outcomes(20, 0.7, 1)
    rule = {"allowed_drop": 0.02, "require": "no_worse"}
    found = judged(same, same, rule)["quiz", "exact_match"]
    assert not found.passed  # twenty equal answers cannot exclude a drop of two points
    assert found.drop_high == pytest.approx(tango_interval(0, 0, 20, 0.9)[1])
    assert judged(same, same, {"allowed_drop": 0.02})["quiz", "exact_match"].passed
    many = random_outcomes(2000, 0.7, 1)
    assert judged(many, many, rule)["quiz", "exact_match"].passed


def test_a_handful_of_instances_fails_nothing_by_chance(judged):
    before, after = {"quiz": records([0.9, 0.8, 0.95])}, {"quiz": records([0.5, 0.4, 0.6])}
    found = judged(before, after, {})["quiz", "exact_match"]
    assert math.isnan(found.drop_low)  # three drops have no interval
    assert found.p == pytest.approx(1 / 8)
    assert found.passed


def test_drops_that_are_all_equal_have_no_bounds_and_are_decided_by_a_permutation_test(judged):
    scores = np.linspace(3, 4, 30)
    before, after = {"quiz": records(scores)}, {"quiz": records(scores - 0.25)}
    found = judged(before, after, {})["quiz", "exact_match"]
    assert math.isnan(found.drop_low)
    assert not found.passed
    assert judged(before, after, {"allowed_drop": 0.5})["quiz", "exact_match"].passed
    no_worse = {"allowed_drop": 0.5, "require": "no_worse"}
    assert judged(before, after, no_worse)["quiz", "exact_match"].passed
    assert not judged(before, after, no_worse | {"allowed_drop": 0.1})["quiz", "exact_match"].passed


def test_an_equally_good_candidate_fails_about_one_time_in_twenty(judged):
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(60):
        before, after = rng.random((2, 60))
        failed += not judged({"quiz": records(before)}, {"quiz": records(after)}, {})["quiz", "exact_match"].passed
    assert failed / 60 <= 0.12


def test_a_rise_counts_as_a_drop_if_lower_is_better(judged):
    low, high = np.linspace(1, 2, 40), np.linspace(1, 2, 40) + np.linspace(0.3, 0.5, 40)
    rule = {"measure": LOSS, "allowed_drop": 0.1}
    found = judged({"quiz": records(low, LOSS)}, {"quiz": records(high, LOSS)}, rule)["quiz", LOSS]
    assert found.drop == pytest.approx(0.4)
    assert not found.passed
    assert judged({"quiz": records(high, LOSS)}, {"quiz": records(low, LOSS)}, rule)["quiz", LOSS].passed


def test_a_percentage_is_of_the_baselines_value(judged):
    before = list(np.linspace(7, 9, 50))
    after = [value - 0.5 for value in before]
    rule = {"allowed_drop": 0.05, "relative": True}  # 5 % of 8 is 0.4
    found = judged({"quiz": records(before)}, {"quiz": records(after)}, rule)["quiz", "exact_match"]
    assert found.allowed_drop == pytest.approx(0.4)
    assert not found.passed
    assert judged({"quiz": records(before)}, {"quiz": records(after)}, {**rule, "allowed_drop": 0.07})[
        "quiz", "exact_match"
    ].passed


def test_the_last_matching_rule_applies_and_patterns_match_many(judged):
    before = {name: records(random_outcomes(300, 0.8, 1)) for name in ("quiz", "riddles")}
    after = {name: records(spoiled(random_outcomes(300, 0.8, 1), 60)) for name in ("quiz", "riddles")}
    found = judged(before, after, {"scenario": "*"}, {"scenario": "qu*", "allowed_drop": 0.5})
    assert {key: one.passed for key, one in found.items()} == {
        ("quiz", "exact_match"): True,
        ("riddles", "exact_match"): False,
    }
    assert found["quiz", "exact_match"].rule.source == "rule 2"
    assert next(iter(found.values())).measures.a.scenario == "riddles"  # what failed comes first


def test_measures_without_values_per_instance_are_judged_by_their_intervals(tmp_path):
    folders = [
        write_evaluation(tmp_path / name, {"quiz": records([1, 0])}, extra=[corpus("quiz", "ece", *three)])
        for name, three in (("a", (0.10, 0.08, 0.12)), ("b", (0.20, 0.18, 0.22)))
    ]
    sides = [load_evaluated_model(folder) for folder in folders]
    (found,), _ = apply_rules([GateRule(measure="ece", allowed_drop=0.05)], *sides)
    assert found.p is None
    assert found.drop == pytest.approx(0.1)
    assert found.drop_low == pytest.approx(0.1 - np.hypot(0.02, 0.02) * 1.6449 / 1.9600, abs=1e-4)
    assert not found.passed
    assert apply_rules([GateRule(measure="ece", allowed_drop=0.09)], *sides)[0][0].passed


def test_groups_and_perturbations_are_judged_if_a_rule_names_them(judged):
    def made(lost):
        values = random_outcomes(300, 0.8, 1)
        rows = [
            *records(values, groups={"topic": "x"}),
            *records(spoiled(values, lost), start=300, groups={"topic": "y"}),
        ]
        return {"quiz": rows + records(spoiled(values, lost), perturbation="typos")}

    found = judged(made(0), made(100), {"group": "topic=*"})
    assert {key[2]: one.passed for key, one in found.items()} == {"topic=x": True, "topic=y": False}
    assert list(judged(made(0), made(100), {"group": "topic=x"})) == [("quiz", "exact_match", "topic=x")]
    found = judged(made(0), made(100), {"perturbation": "typos"})["quiz", "exact_match"]
    assert not found.passed
    assert found.n == 300


def test_a_rule_that_matches_nothing_names_the_closest(judged):
    quiz = random_outcomes(10, 0.5)
    with pytest.raises(UserError, match=r"rule 1: no result matches scenario quizz.*the scenarios are quiz"):
        judged(quiz, quiz, {"scenario": "quizz"})
    with pytest.raises(UserError, match=r"measure exact_mach; quiz has exact_match"):
        judged(quiz, quiz, {"scenario": "quiz", "measure": "exact_mach"})


def test_a_candidate_without_a_protected_result_is_an_error(judged):
    quiz = records(random_outcomes(10, 0.5))
    with pytest.raises(UserError, match="has no riddles exact_match at 0 shots"):
        judged({"quiz": quiz, "riddles": quiz}, {"quiz": quiz}, {})
    with pytest.raises(UserError, match="riddles: 0 of A's 10 and B's 10 instances are the same"):
        judged({"quiz": quiz, "riddles": quiz}, {"quiz": quiz, "riddles": records([1.0] * 10, start=50)}, {})


@pytest.fixture
def folders(tmp_path):
    before = random_outcomes(300, 0.8, 1)
    return [
        write_evaluation(tmp_path / name, {"quiz": records(values)})
        for name, values in (("good", before), ("bad", spoiled(before, 60)))
    ]


def written(tmp_path, text):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    return str(path)


def test_the_exit_code_says_whether_it_passed(folders, tmp_path, capsys):
    config = written(tmp_path, "rules:\n  - {scenario: '*', allowed_drop: 0.02}\n")
    good, bad = folders
    with pytest.raises(SystemExit) as stop:
        main(["gate", "--baseline", good, "--candidate", bad, "--rules", config, "--output", str(tmp_path / "v.json")])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "1 of 1 regressed" in said
    assert "quiz exact_match" in said
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert verdict["passed"] is False
    assert verdict["verdicts"][0]["drop"] == pytest.approx(0.2)
    main(["gate", "--baseline", bad, "--candidate", good, "--rules", config])
    assert "1 of 1 passed" in capsys.readouterr().out
    assert gate(baseline=bad, candidate=good, rules=config, json=True).passed
    assert json.loads(capsys.readouterr().out)["passed"] is True
    failed = gate(baseline=good, candidate=bad, rules=config)  # from Python it is a result, not the end of the program
    assert not failed.passed
    assert failed.verdicts[0].drop == pytest.approx(0.2)


def test_defaults_apply_to_every_rule(tmp_path):
    text = """
defaults: {confidence: 0.9, allowed_drop: 2%}
rules:
  - {scenario: gsm8k}
  - {scenario: xstest, measure: "*", allowed_drop: 0.5, require: no_worse, shots: 5}
"""
    first, second = read_rules(written(tmp_path, text))
    assert (first.allowed_drop, first.relative, first.confidence) == (0.02, True, 0.9)
    assert (second.allowed_drop, second.relative, second.confidence) == (0.5, False, 0.9)
    assert (second.require, second.shots, second.source.endswith("rule 2")) == ("no_worse", 5, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules: [{scenario: quiz, alowed_drop: 0.1}]", "rule 1: no key 'alowed_drop'; did you mean allowed_drop?"),
        ("rule: []", "no key 'rule'; did you mean rules?"),
        ("rules: []", "rules: expected a list of at least one rule"),
        ("- 3", "expected the keys rules"),
        ("rules: [3]", "rule 1: expected a mapping"),
        ("rules: [{allowed_drop: lots}]", "rule 1: allowed_drop: expected a number or a percentage, got 'lots'"),
        ("rules: [{allowed_drop: -0.1}]", "allowed_drop: expected 0 or more"),
        ("rules: [{allowed_drop: .inf}]", "expected a finite number"),
        ("rules: [{confidence: 95}]", "confidence: expected more than 0.5 and less than 1"),
        ("rules: [{require: better}]", "require: expected no_significant_drop or no_worse"),
        ("rules: [{shots: many}]", "shots: expected a whole number"),
        ("rules: [{scenario: 3}]", "scenario: expected a name"),
        ("defaults: {confidence: 1}\nrules: [{}]", "defaults: confidence"),
        ("rules: [{scenario: qiz}]", "did you|the scenarios are quiz"),
        ("rules: [", "not valid YAML"),
    ],
)
def test_an_error_in_the_rules_is_one_line_with_exit_code_2(text, expected, folders, tmp_path, capsys):
    config = written(tmp_path, text)
    with pytest.raises(SystemExit) as stop:
        main(["gate", "--baseline", folders[0], "--candidate", folders[1], "--rules", config])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1
    assert "gate.yaml" in said
    assert any(part in said for part in expected.split("|"))


def test_a_pattern_of_measures_skips_efficiency_unless_the_category_is_named():
    def fits(**rule) -> list[str]:
        value = Interval(0.0, (0.0, 0.0), 1)
        found = [Result("m", "s", name, value, category) for name, category in
                 (("exact", "accuracy"), ("ece", "calibration"), ("seconds", "efficiency"))]  # fmt: skip
        return [one.measure for one in found if GateRule(**rule).matches(one, "exact")]

    assert fits(measure="*") == ["exact", "ece"]
    assert fits(measure="sec*") == []
    assert fits(measure="seconds") == ["seconds"]
    assert fits(measure="*", category="efficiency") == ["seconds"]
    assert fits(measure="*", category="calibration") == ["ece"]
