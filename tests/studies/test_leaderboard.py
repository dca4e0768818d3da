"""The leaderboard over seeds: means and intervals of synthetic summaries, paired gains, costs of each method."""

import json
import math

import pytest
from scipy import stats

from zhenlong.api.folder_format import FORMAT
from zhenlong.cli import main
from zhenlong.errors import UserError
from zhenlong.studies.leaderboard import leaderboard, mean_over_seeds, prompt_paired_gain

GOLD = {"sft": (0.40, 0.44, 0.45), "dpo": (0.50, 0.56, 0.56), "dpo_norm": (0.39, 0.46, 0.46)}


def measures(gold):
    share = {"ci95": [0.1, 0.9], "n": 100}
    return {
        "gold_reward": {"mean": gold, **share},
        "harmful_refused": {"mean": 0.8, **share},
        "benign_compliance": {"mean": 0.9, **share},
        "accuracy": {"mean": 0.25, **share},
        "kl_from_sft": 0.5,
        "mean_response_tokens": 10.0,
        "world_facts_ece_10_bin": {"mean": 0.07, **share},
    }


def folder(path, seed, **changes):
    """The output folder of a finished recipe."""
    path.mkdir(parents=True)
    seconds = {"sft": 100.0, "dpo": 10.0, "dpo_norm": 20.0, "dpo_norm_data": 5.0, "evaluate_world": 50.0}
    steps = [[name, "dpo", {"seed": seed, "data": f"world:tasks?n=9&seed={seed}", "model": f"{path}/sft"}]
             for name in seconds]  # fmt: skip
    models = {name: measures(values[seed]) for name, values in GOLD.items()}
    summary = {"seed": seed, "seconds": 185.0, "step_seconds": seconds, "models": models} | changes
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "progress.json").write_text(json.dumps({"format": FORMAT, "recipe": changes.get("recipe", steps)}))
    for name in ("sft", "dpo", "dpo_norm"):
        (path / name).mkdir()
        (path / name / "ledger.json").write_text(json.dumps({"flops": 3e12}))
    return str(path)


@pytest.fixture
def runs(tmp_path):
    return [folder(tmp_path / f"run{seed}", seed) for seed in range(3)]


def test_means_and_students_intervals_over_seeds():
    found = mean_over_seeds([1.0, 2.0, 4.0])
    reference = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
    assert found.mean == pytest.approx(7 / 3)
    assert found.ci95 == pytest.approx(reference)
    assert math.isnan(mean_over_seeds([1.0]).ci95[0])


def test_gains_are_paired_by_seed(runs, tmp_path, capsys):
    leaderboard(runs, output=str(tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    reference = mean_over_seeds([0.10, 0.12, 0.11])
    assert found["gains"]["dpo"]["mean"] == pytest.approx(reference.mean)
    assert found["gains"]["dpo"]["ci95"] == pytest.approx(reference.ci95)
    assert found["gains"]["dpo"]["above_zero"]
    assert not found["gains"]["dpo_norm"]["above_zero"]
    assert "sft" not in found["gains"]
    assert "DPO" in capsys.readouterr().out


def test_the_interval_over_prompts_adds_the_variances_of_the_seeds(tmp_path):
    gains = [{"mean": mean, "ci95": [mean - half, mean + half], "n": 100} for mean, half in ((0.1, 0.06), (0.2, 0.08))]
    found = prompt_paired_gain(gains)
    assert (found.mean, found.n) == (pytest.approx(0.15), 200)
    assert found.ci95 == pytest.approx((0.10, 0.20))  # half of sqrt(0.06^2 + 0.08^2)
    assert prompt_paired_gain([gains[0], None]) is None
    models = {"sft": measures(0.4), "dpo": measures(0.5) | {"gold_gain_over_sft": gains[0]}}
    text = leaderboard([folder(tmp_path / "one", 0, models=models)], output=str(tmp_path / "out")).read_text()
    assert "[+0.040, +0.160]" in text
    assert "not above 0: none" in text
    found = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert found["gains_over_prompts"]["dpo"]["above_zero"]


def test_columns_hold_the_measure_of_their_title(runs, tmp_path):
    text = leaderboard(runs, output=str(tmp_path / "out")).read_text()
    row = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["methods"]["dpo_norm"]
    assert row["over-refuses %"]["mean"] == pytest.approx(10.0)
    assert row["accuracy %"]["mean"] == pytest.approx(25.0)
    assert row["ECE"]["mean"] == pytest.approx(0.07)
    assert row["GFLOP"]["mean"] == pytest.approx(3000.0)
    assert "proxy reward" not in row
    lines = text.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["SFT", "DPO", "dpo\\_norm"]  # by gain
    assert "Not above sft beyond chance: dpo_norm" in text


def test_cost_counts_a_methods_own_steps_and_none_of_a_method_with_a_longer_name(runs, tmp_path):
    leaderboard(runs, output=str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["methods"]
    assert rows["dpo"]["seconds"]["mean"] == 10.0
    assert rows["dpo_norm"]["seconds"]["mean"] == 25.0


def test_runs_that_are_not_comparable_are_refused(runs, tmp_path):
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match="same seed 1 as"):
        leaderboard([*runs, folder(tmp_path / "again", 1)], output=out)
    with pytest.raises(UserError, match="other models than in"):
        leaderboard([runs[0], folder(tmp_path / "other", 1, models={"sft": measures(0.4)})], output=out)
    with pytest.raises(UserError, match="other steps or options"):
        leaderboard([runs[0], folder(tmp_path / "steps", 1, recipe=[["sft", "sft", {"lr": 1.0}]])], output=out)
    with pytest.raises(UserError, match=r"no summary\.json"):
        leaderboard([str(tmp_path / "nothing")], output=out)
    with pytest.raises(UserError, match="baseline: expected one of sft"):
        leaderboard(runs, output=out, baseline="ppo")
    with pytest.raises(UserError, match="runs: expected one folder"):
        leaderboard([], output=out)
    assert not (tmp_path / "out").exists()


def test_the_command_accepts_several_runs(runs, tmp_path):
    main(["leaderboard", *runs, "--output", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "leaderboard.json").read_text())["runs"] == runs
