"""Held-out measures during training: curves, the best model kept, an early end; and no other weights by measuring."""

import json
import math
import shutil

import pytest
from cases import run_case
from safetensors.torch import load_file
from tiny_files import read_metrics, weight_bytes

from zhenlong.errors import UserError


def curve_of(run, name="heldout_loss"):
    return {line["step"]: line[name] for line in read_metrics(run) if line.get(name) is not None}


def test_measuring_makes_a_curve_and_changes_no_weight(files, tmp_path):
    quiet = run_case("sft", files, tmp_path / "quiet", steps=5)
    watched = run_case(
        "sft", files, tmp_path / "watched", steps=5, heldout=files["demonstrations"], heldout_every=2, log_every=100
    )
    assert weight_bytes(quiet) == weight_bytes(watched)
    curve = curve_of(watched)
    assert list(curve) == [0, 2, 4, 5]
    results = json.loads((watched / "finished.json").read_text())["results"]
    assert math.exp(curve[0]) == pytest.approx(results["before"]["perplexity"]["mean"])
    assert math.exp(curve[5]) == pytest.approx(results["after"]["perplexity"]["mean"])


def test_the_best_model_is_kept_and_training_ends_when_it_gets_no_better(files, tmp_path, monkeypatch):
    losses = iter([9.0, 9.0, 3.0, 2.0, 2.5, 2.0, 1.0])  # before, step 0, steps 1, 2, ...
    shown = []

    def measured(model, demonstrations, **options):
        shown.append({name: value.clone() for name, value in model[0].state_dict().items()})
        return {"perplexity": {"mean": math.exp(next(losses, 7.0))}}

    monkeypatch.setattr("zhenlong.stages.sft.perplexity", measured)
    run = run_case(
        "sft",
        files,
        tmp_path / "run",
        steps=8,
        heldout=files["demonstrations"],
        heldout_every=1,
        keep_best=True,
        patience=2,
    )
    assert list(curve_of(run)) == [0, 1, 2, 3, 4]  # two measures no better than that of step 2
    assert json.loads((run / "best.json").read_text()) == {"step": 2, "heldout_loss": pytest.approx(2.0)}
    kept = load_file(run / "model" / "model.safetensors")
    best = shown[3]
    assert all(kept[name].equal(best[name]) for name in kept)
    assert not (run / "best").exists()
    assert json.loads((run / "finished.json").read_text())["steps"] == 4


def test_a_resumed_run_decides_as_one_that_was_never_interrupted(files, tmp_path):
    wanted = {"steps": 6, "heldout": files["demonstrations"], "heldout_every": 1, "keep_best": True, "save_every": 3}
    whole = run_case("sft", files, tmp_path / "whole", **wanted)
    part = run_case("sft", files, tmp_path / "part", **wanted)
    for name in ("finished.json", "best.json"):
        (part / name).unlink()
    shutil.rmtree(part / "checkpoints" / "step-000006", ignore_errors=True)
    part = run_case("sft", files, tmp_path / "part", **wanted, resume=True)
    assert curve_of(part) == curve_of(whole)
    assert weight_bytes(part) == weight_bytes(whole)
    assert (part / "best.json").read_text() == (whole / "best.json").read_text()


def test_the_results_are_of_the_model_that_is_saved(files, tmp_path):
    options = {"steps": 6, "heldout": files["demonstrations"], "heldout_every": 1, "keep_best": True}
    run = run_case("sft", files, tmp_path / "run", **options, lr=1.0)  # so large that every step makes it worse
    curve = curve_of(run)
    best = json.loads((run / "best.json").read_text())
    assert best["heldout_loss"] == min(loss for step, loss in curve.items() if step)
    assert best["step"] < 6
    results = json.loads((run / "finished.json").read_text())["results"]
    assert math.log(results["after"]["perplexity"]["mean"]) == pytest.approx(best["heldout_loss"], rel=1e-4)


@pytest.mark.parametrize("saved_every", [1, 0])
def test_a_run_that_ended_early_does_not_go_on_when_it_was_killed_before_it_was_finished(
    saved_every, files, tmp_path, monkeypatch
):
    losses = iter([9.0, 9.0, 3.0, 4.0, 9.0, 3.0, 4.0, 3.0])  # before, steps 0, 1, 2; after; and the same once more

    monkeypatch.setattr(
        "zhenlong.stages.sft.perplexity", lambda *_, **__: {"perplexity": {"mean": math.exp(next(losses, 3.0))}}
    )

    class Killed(BaseException):
        """As SIGKILL between the model and finished.json."""

    def kill(*_):
        raise Killed

    wanted = {
        "steps": 6, "heldout": files["demonstrations"], "heldout_every": 1, "keep_best": True, "patience": 1,
        "save_every": saved_every,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("zhenlong.loop.run.Run.finish_without_model", kill)
        with pytest.raises(Killed):
            run_case("sft", files, tmp_path / "run", **wanted)
    kept = weight_bytes(tmp_path / "run")
    run = run_case("sft", files, tmp_path / "run", **wanted, resume=True)
    assert json.loads((run / "finished.json").read_text())["steps"] == 2
    assert weight_bytes(run) == kept
    assert not (run / "best").exists()


def test_dpo_has_the_accuracy_of_the_implicit_reward(files, tmp_path):
    run = run_case("dpo", files, tmp_path / "run", steps=3, heldout=files["rankings"], heldout_every=3)
    curve = curve_of(run, "heldout_accuracy")
    assert list(curve) == [0, 3]
    assert curve[0] == 0.5  # the policy is its own reference: every pair is a tie


def test_options_that_need_each_other_are_one_line(files, tmp_path):
    for wrong, says in (
        ({"patience": 2}, "because keep_best or patience is set"),
        ({"heldout_every": 2}, "give --heldout"),
    ):
        with pytest.raises(UserError, match=says):
            run_case("sft", files, tmp_path / "run", **wrong)
