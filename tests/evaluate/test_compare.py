"""Two evaluations are compared by instance, in each measure's direction, and differing settings are reported."""

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_folders import LOSS, corpus, random_outcomes, records, write_evaluation
from scipy import stats

from zhenlong.cli import main
from zhenlong.errors import UserError
from zhenlong.evaluate.compare.compare import compare
from zhenlong.evaluate.results.result_files import Result, write_results
from zhenlong.evaluate.statistics.intervals import Interval, paired_difference
from zhenlong.evaluate.statistics.significance import (
    holm_correction,
    mcnemar_detectable_effect,
    minimum_detectable_effect,
    permutation_test,
    tango_interval,
)


@pytest.fixture
def compared(tmp_path, capsys):
    """The printed JSON of a comparison, with the differences by scenario, measure, perturbation and group."""

    def run(a, b="", **options):
        compare(a, b, json=True, **options)
        found = json.loads(capsys.readouterr().out)
        names = ("scenario", "measure", "perturbation", "group")
        found["by"] = {tuple(one[name] for name in names): one for one in found["differences"]}
        return found

    return run


def two(tmp_path, a, b, measure="exact_match", **options):
    return (
        write_evaluation(tmp_path / "a", {"quiz": records(a, measure)}, **options),
        write_evaluation(tmp_path / "b", {"quiz": records(b, measure)}, **options),
    )


def test_binary_outcomes_get_mcnemars_test_and_its_detectable_effect(tmp_path, compared):
    a, b = random_outcomes(200, 0.5, 1), random_outcomes(200, 0.62, 2)
    found = compared(*two(tmp_path, a, b))["by"]["quiz", "exact_match", "", ""]
    gained, lost = (sum(x < y for x, y in zip(a, b, strict=True)), sum(x > y for x, y in zip(a, b, strict=True)))
    assert found["test"] == "mcnemar"
    assert found["p"] == pytest.approx(stats.binomtest(int(lost), int(lost + gained)).pvalue)
    assert found["mde"] == pytest.approx(mcnemar_detectable_effect(int(lost + gained), 200))
    assert found["difference"]["mean"] == pytest.approx(np.mean(b) - np.mean(a))
    assert found["difference"]["ci95"] == pytest.approx(paired_difference(b, a).ci95)
    assert (found["a"], found["b"]) == (pytest.approx(np.mean(a)), pytest.approx(np.mean(b)))


def test_few_discordant_pairs_give_a_wide_interval(tmp_path, compared):
    a = [1.0] * 30
    found = compared(*two(tmp_path, a, a))["by"]["quiz", "exact_match", "", ""]
    assert found["difference"]["ci95"] == pytest.approx(tango_interval(0, 0, 30))
    assert found["p"] == 1.0
    assert found["mde"] == pytest.approx(mcnemar_detectable_effect(0, 30))


def test_other_values_get_a_permutation_test(tmp_path, compared):
    rng = np.random.default_rng(3)
    a = rng.random(50)
    b = a + rng.normal(0.1, 0.2, 50)
    found = compared(*two(tmp_path, a, b, "f1"))["by"]["quiz", "f1", "", ""]
    assert found["test"] == "permutation"
    assert found["p"] == pytest.approx(permutation_test(b - a))
    assert found["mde"] == pytest.approx(minimum_detectable_effect(b - a))
    assert found["verdict"] == "better"


def test_lower_is_better_if_the_measure_says_so(tmp_path, compared):
    a, b = np.linspace(1, 2, 40), np.linspace(1, 2, 40) - np.linspace(0.1, 0.3, 40)
    assert compared(*two(tmp_path, a, b, LOSS))["by"]["quiz", LOSS, "", ""]["verdict"] == "better"
    assert compared(str(tmp_path / "b"), str(tmp_path / "a"))["by"]["quiz", LOSS, "", ""]["verdict"] == "worse"


def test_p_values_are_corrected_over_whole_scenarios_and_separately_over_groups(tmp_path, compared):
    made = {}
    for side, shift in (("a", 0.0), ("b", 0.12)):
        made[side] = {
            f"quiz{number}": [
                *records(random_outcomes(60, 0.4 + shift, 10 * number + (side == "b")), groups={"topic": "x"}),
                *records(
                    random_outcomes(60, 0.4 + shift, 10 * number + 5 + (side == "b")), start=60, groups={"topic": "y"}
                ),
            ]
            for number in range(3)
        }
    found = compared(*(write_evaluation(tmp_path / side, made[side]) for side in ("a", "b")))["by"]
    for grouped in (False, True):
        family = [one for key, one in found.items() if bool(key[3]) == grouped]
        assert len(family) == (6 if grouped else 3)
        assert [one["holm"] for one in family] == pytest.approx(holm_correction([one["p"] for one in family]))
    assert any(one["holm"] > one["p"] for one in found.values())
    assert all(one["difference"]["n"] == (60 if key[3] else 120) for key, one in found.items())


def test_trials_of_one_instance_count_as_one(tmp_path, compared):
    rows = {
        side: records(random_outcomes(40, share, seed)) + records(random_outcomes(40, share, seed + 1), trial=1)
        for side, share, seed in (("a", 0.4, 1), ("b", 0.6, 7))
    }
    found = compared(*(write_evaluation(tmp_path / side, {"quiz": rows[side]}) for side in ("a", "b")))["by"]
    one = found["quiz", "exact_match", "", ""]
    assert one["difference"]["n"] == 40
    assert one["test"] == "permutation"  # a mean of two trials may be a half


def test_the_worst_case_over_perturbations_is_paired_too(tmp_path, compared):
    worst = Result(
        "m", "quiz", "exact_match", Interval(0.5, (0.3, 0.7), 30), "robustness", perturbation="worst_case/robustness"
    )
    sides = []
    for side, seed in (("a", 1), ("b", 2)):
        plain, typos = random_outcomes(30, 0.7, seed), random_outcomes(30, 0.7, seed + 10)
        rows = records(plain) + records(typos, perturbation="typos")
        sides.append((write_evaluation(tmp_path / side, {"quiz": rows}, extra=[worst]), np.minimum(plain, typos)))
    found = compared(sides[0][0], sides[1][0])["by"]["quiz", "exact_match", "worst_case/robustness", ""]
    assert (found["a"], found["b"]) == (pytest.approx(sides[0][1].mean()), pytest.approx(sides[1][1].mean()))
    assert found["test"] == "mcnemar"


def test_unshared_instances_and_failures_are_left_out_and_reported(tmp_path, compared):
    a = write_evaluation(tmp_path / "a", {"quiz": records([1, None, 0, 1, 1, 0])})
    b = write_evaluation(tmp_path / "b", {"quiz": records([None, 1, 1, 0], start=1)})
    found = compared(a, b)
    one = found["by"]["quiz", "exact_match", "", ""]
    assert (one["a"], one["b"], one["difference"]["n"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    counts = found["instances"]["quiz"]
    assert (counts["a"], counts["b"], counts["shared"], counts["paired"]) == (6, 4, 4, 3)
    assert (counts["failed_a"], counts["failed_b"]) == (1, 1)
    assert any("4 instances in common (A has 6, B has 4); A failed on 1" in note for note in found["notes"])


def test_the_same_id_with_other_references_is_not_paired(tmp_path, compared):
    a = write_evaluation(tmp_path / "a", {"quiz": records([1, 0, 1, 1])})
    rows = records([0, 0, 1, 1])
    rows[0] = replace(rows[0], references=({"text": "something else", "correct": True},))
    found = compared(a, write_evaluation(tmp_path / "b", {"quiz": rows}))
    assert found["instances"]["quiz"]["different"] == 1
    assert found["by"]["quiz", "exact_match", "", ""]["difference"]["n"] == 3


def test_choices_in_another_order_are_the_same_question(tmp_path, compared):
    choices = ({"text": "x", "correct": True}, {"text": "y", "correct": False})
    sides = []
    for side, references in (("a", choices), ("b", choices[::-1])):
        rows = [replace(one, references=references) for one in records([1, 0, 1])]
        sides.append(write_evaluation(tmp_path / side, {"quiz": rows}))
    assert compared(*sides)["instances"]["quiz"]["paired"] == 3


def test_evaluations_of_other_instances_are_refused(tmp_path):
    a = write_evaluation(tmp_path / "a", {"quiz": records([1, 0, 1, 1])})
    with pytest.raises(UserError, match="0 of A's 4 and B's 3 instances are the same"):
        compare(a, write_evaluation(tmp_path / "b", {"quiz": records([1, 0, 1], start=10)}))
    few = write_evaluation(tmp_path / "c", {"quiz": records([1, 0, 1, 1], start=3)})
    with pytest.raises(UserError, match=r"1 of A's 4 and B's 4 instances are the same; expected at least 50%"):
        compare(a, few)
    compare(a, few, min_overlap=0.1)
    with pytest.raises(UserError, match="no scenario in common; A has quiz, B has riddles"):
        compare(a, write_evaluation(tmp_path / "d", {"riddles": records([1])}))


def test_a_refused_scenario_does_not_stop_the_others(tmp_path, compared):
    a = write_evaluation(tmp_path / "a", {"quiz": records([1, 0]), "riddles": records([1, 0])})
    b = write_evaluation(tmp_path / "b", {"quiz": records([1, 0]), "riddles": records([1, 0], start=5)})
    found = compared(a, b)
    assert {key[0] for key in found["by"]} == {"quiz"}
    assert any(note.startswith("riddles: not compared") for note in found["notes"])


def test_differing_settings_are_reported(tmp_path, compared):
    facts = [
        {"seed": seed, "versions": {"torch": torch}, "models": {"m": {"fingerprint": print_, "tokenizer": "t"}}}
        for seed, torch, print_ in ((0, "2.9", "aaa"), (1, "2.8", "bbb"))
    ]
    a = write_evaluation(tmp_path / "a", {"quiz": records([1, 0]), "riddles": records([1])}, manifest=facts[0])
    b = write_evaluation(tmp_path / "b", {"quiz": records([1, 0])}, manifest=facts[1])
    assert compared(a, b)["notes"] == [
        "seed: 0 in A, 1 in B",
        "versions torch: 2.9 in A, 2.8 in B",
        "the model's fingerprint: aaa in A, bbb in B",
        "only A has riddles",
    ]


def test_single_but_different_numbers_of_shots_are_compared_and_reported(tmp_path, compared, capsys):
    a = write_evaluation(tmp_path / "a", {"quiz": records([1, 0, 1], shots=0)})
    b = write_evaluation(tmp_path / "b", {"quiz": records([1, 1, 1], shots=5)})
    assert compared(a, b)["by"]["quiz", "exact_match", "", ""]["shots"] == [0, 5]
    compare(a, b)
    assert "0 against 5 shots" in " ".join(capsys.readouterr().out.split())
    both = write_evaluation(tmp_path / "c", {"quiz": records([1, 1], shots=2) + records([1, 1], shots=4)})
    with pytest.raises(UserError, match="expected a number in common"):
        compare(a, both)


def test_a_measure_without_values_per_instance_is_reported_but_not_tested(tmp_path, compared):
    extra = [corpus("quiz", "ece", 0.30, 0.26, 0.34)], [corpus("quiz", "ece", 0.10, 0.07, 0.13)]
    a = write_evaluation(tmp_path / "a", {"quiz": records([1, 0])}, extra=extra[0])
    b = write_evaluation(tmp_path / "b", {"quiz": records([1, 0])}, extra=extra[1])
    one = compared(a, b)["by"]["quiz", "ece", "", ""]
    assert (one["paired"], one["p"], one["holm"]) == (False, None, None)
    assert one["difference"]["ci95"] == pytest.approx([-0.2 - 0.05, -0.2 + 0.05])


def test_two_models_of_one_folder(tmp_path, compared):
    folder = write_evaluation(tmp_path / "a", {"quiz": records([1, 0, 0, 0])}, model="sft")
    first = json.loads((tmp_path / "a" / "results.json").read_text())
    write_evaluation(tmp_path / "a", {"quiz": records([1, 1, 1, 0])}, model="dpo")
    second = json.loads((tmp_path / "a" / "results.json").read_text())
    rows = [Result(**{**row, "value": Interval(row["value"]["mean"], (0, 1), 4)}) for row in [*first, *second]]
    write_results(folder, {"models": {}}, rows)
    found = compared(folder)
    assert (found["a"]["model"], found["b"]["model"]) == ("sft", "dpo")
    assert found["by"]["quiz", "exact_match", "", ""]["difference"]["mean"] == 0.5
    assert compared(folder, model_a="dpo", model_b="sft")["differences"][0]["difference"]["mean"] == -0.5
    with pytest.raises(UserError, match="holds 2 models"):
        compare(folder, write_evaluation(tmp_path / "b", {"quiz": records([1])}))
    with pytest.raises(UserError, match="did you mean dpo"):
        compare(folder, model_a="sft", model_b="dop")


def test_the_command_prints_a_table_and_writes_the_numbers(tmp_path, capsys):
    a, b = two(tmp_path, random_outcomes(100, 0.3, 1), random_outcomes(100, 0.7, 2))
    main(["compare", a, b, "--output", str(tmp_path / "out" / "c.json")])
    said = capsys.readouterr().out
    assert "quiz exact_match" in said
    assert "better" in said
    assert json.loads((tmp_path / "out" / "c.json").read_text())["b"]["folder"] == b


@pytest.mark.parametrize("given", [["compare", "nowhere"], ["compare", "nowhere", "elsewhere"]])
def test_a_folder_without_an_evaluation_is_one_line(given, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(given)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
