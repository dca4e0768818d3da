"""Evaluations during training change no weight, make curves, and stop a run whose gate is broken."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import run_case
from evaluation_folders import random_outcomes, records, write_evaluation
from tiny_files import model_folder, read_metrics, weight_bytes

from zhenlong.cli import main
from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import read_results
from zhenlong.stages import evaluate_during_training
from zhenlong.stages.evaluate_during_training import GateStopped

WATCHED = {"evaluate_every": 2, "evaluation_suite": "world", "evaluation_limit": 2}


@pytest.fixture
def measured(monkeypatch):
    """In place of the runner: writes what it is told to have measured, and draws random numbers as a sampler does."""
    shares = [0.9]

    def evaluate(models, folder, **options):
        (name, (model, _)), *_ = models.items()
        assert not model.training
        assert not torch.is_grad_enabled()
        assert options["suite"] == "world"
        random.random()
        np.random.rand(3)  # noqa: NPY002
        torch.rand(3)
        share = shares.pop(0) if len(shares) > 1 else shares[0]
        write_evaluation(folder, {"quiz": records(random_outcomes(300, share, 1))}, model=name)
        return SimpleNamespace(results=read_results(folder), failed=[])

    monkeypatch.setattr(evaluate_during_training, "evaluate", evaluate)
    return shares


def test_the_world_is_evaluated_before_during_and_after_and_no_weight_changes(files, tmp_path):
    network = model_folder(tmp_path / "gpt2", "gpt2")
    quiet = run_case("sft", files, tmp_path / "quiet", model=network, steps=3)
    watched = run_case("sft", files, tmp_path / "watched", model=network, steps=3, **WATCHED)
    assert weight_bytes(quiet) == weight_bytes(watched)
    curve = {line["step"]: line.get("evaluation/world_tasks/gold_reward") for line in read_metrics(watched)}
    assert list(curve) == [0, 1, 2, 3]
    assert curve.pop(1) is None
    for step, value in curve.items():
        found = read_results(watched / "evaluation" / f"step-{step:06d}")
        main_result = next(one for one in found if one.scenario == "world_tasks" and one.main)
        assert main_result.value.mean == value
        assert (main_result.model, main_result.value.n) == ("sft", 2)


@pytest.mark.parametrize("case", ["pretrain", "dpo", "grpo", "ppo"])
def test_random_numbers_and_modes_are_as_they_were(case, files, tmp_path, measured):
    network = model_folder(tmp_path / "gpt2", "gpt2")
    quiet = run_case(case, files, tmp_path / "quiet", model=network, steps=3)
    watched = run_case(case, files, tmp_path / "watched", model=network, steps=3, **WATCHED)
    assert weight_bytes(quiet) == weight_bytes(watched)
    assert [line["step"] for line in read_metrics(watched) if "evaluation/quiz/exact_match" in line] == [0, 2, 3]


def test_a_curve_has_its_points_where_lines_are_rare(files, tmp_path, measured):
    run = run_case("sft", files, tmp_path / "run", steps=5, log_every=5, **WATCHED)
    assert [line["step"] for line in read_metrics(run)] == [0, 2, 4, 5]


@pytest.fixture
def gate(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text("rules: [{scenario: quiz, allowed_drop: 0.05}]\n")
    return str(path)


def test_a_broken_gate_stops_the_run_which_can_go_on_without_it(files, tmp_path, measured, gate, capsys):
    measured[:] = [0.9, 0.89, 0.5, 0.9]
    options = {"steps": 7, "save_every": 0, **WATCHED}
    with pytest.raises(GateStopped) as stop:
        run_case("sft", files, tmp_path / "run", stop_on_gate=gate, **options)
    assert stop.value.code == 1
    assert [one.measures.a.measure for one in stop.value.failed] == ["exact_match"]
    said = capsys.readouterr().err
    assert "rule 1 after step 4: quiz exact_match is worse by 0." in said
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[-1]["evaluation/quiz/exact_match"] < 0.6
    assert not (tmp_path / "run" / "finished.json").exists()
    measured[:] = [0.9]
    run = run_case("sft", files, tmp_path / "run", resume=True, stop_on_gate="", **options)
    assert weight_bytes(run) == weight_bytes(run_case("sft", files, tmp_path / "quiet", steps=7, save_every=0))
    assert [line["step"] for line in read_metrics(run)] == list(range(8))


def test_a_kept_gate_lets_the_run_finish(files, tmp_path, measured, gate):
    run = run_case("sft", files, tmp_path / "run", stop_on_gate=gate, steps=3, **WATCHED)
    assert json.loads((run / "finished.json").read_text())["steps"] == 3


def test_the_command_exits_with_1_where_the_gate_is_broken(files, tmp_path, measured, gate):
    measured[:] = [0.9, 0.2]
    given = {"model": files["model"], "data": files["demonstrations"], "output": str(tmp_path / "run"), "steps": 3}
    options = {**given, "device": "cpu", "progress": "false", "evaluate-every": 1, "evaluation-suite": "world"}
    with pytest.raises(SystemExit) as stop:
        main(["sft", *(f"--{name}={value}" for name, value in options.items()), "--stop-on-gate", gate])
    assert stop.value.code == 1


@pytest.mark.parametrize(
    ("case", "options", "expected"),
    [
        ("sft", {"evaluate_every": 1, "evaluation_suite": "wrld"}, "did you mean world"),
        ("sft", {"stop_on_gate": "gate.yaml"}, "evaluate_every: expected 1 or more, because stop_on_gate is set"),
        ("sft", {"evaluate_every": 1, "stop_on_gate": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
        ("sft", {"evaluate_every": -1}, "evaluate_every: expected a whole number of 0 or more"),
        ("reward_model", {"evaluate_every": 1}, "a reward model answers nothing"),
    ],
)
def test_a_mistake_is_found_before_anything_is_written(case, options, expected, files, tmp_path, measured):
    with pytest.raises(UserError, match=expected):
        run_case(case, files, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_first_evaluation_that_cannot_be_made_leaves_nothing(files, tmp_path, monkeypatch):
    def evaluate(models, folder, **options):
        folder.mkdir(parents=True)
        return SimpleNamespace(results=[], failed=[("", "quiz", "no data")])

    monkeypatch.setattr(evaluate_during_training, "evaluate", evaluate)
    with pytest.raises(UserError, match=r"nothing could be evaluated \(quiz: no data\)"):
        run_case("sft", files, tmp_path / "run", **WATCHED)
    assert not (tmp_path / "run").exists()


def test_a_gate_needs_the_evaluation_before_the_first_step(files, tmp_path, measured, gate):
    run_case("sft", files, tmp_path / "a", steps=2, save_every=1)
    (tmp_path / "a" / "finished.json").unlink()
    with pytest.raises(UserError, match="evaluate_every has to be given from the start"):
        run_case("sft", files, tmp_path / "a", steps=2, save_every=1, resume=True, stop_on_gate=gate, **WATCHED)
