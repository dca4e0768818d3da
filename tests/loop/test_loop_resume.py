"""A resumed run ends with the same bits as an uninterrupted one, and its files show no gap or repetition."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_stage import tiny_stage

from zhenlong.errors import UserError
from zhenlong.loop import Interrupted, NonFiniteError
from zhenlong.loop.checkpoint import list_checkpoints, load_checkpoint

CLOCKED = ("seconds", "tokens_per_second")


class Crash(Exception):
    pass


def crash_at(at: int):
    def during(run, step):
        if step == at:
            raise Crash

    return during


def metrics(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]


def same_results(one: Path, other: Path) -> bool:
    a, b = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    same_weights = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    return same_weights and metrics(one) == metrics(other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    return tiny_stage(tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("at", [1, 2, 3, 4, 7, 9])
def test_resume_after_a_crash_in_any_step_gives_the_same_result(uninterrupted, tmp_path, at):
    """An epoch ends in steps 3, 5 and 8; a checkpoint exists after every second step."""
    with pytest.raises(Crash):
        tiny_stage(tmp_path / "run", during=crash_at(at))
    tiny_stage(tmp_path / "run", resume=True)
    assert same_results(uninterrupted, tmp_path / "run")
    assert [row["step"] for row in metrics(tmp_path / "run")] == list(range(1, 10))


def test_resume_after_two_interruptions_gives_the_same_result(uninterrupted, tmp_path):
    for at in (3, 5):
        with pytest.raises(Crash):
            tiny_stage(tmp_path / "run", during=crash_at(at), resume=True)
    tiny_stage(tmp_path / "run", resume=True)
    assert same_results(uninterrupted, tmp_path / "run")


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -9), ("SIGTERM", 143)])
def test_resume_after_a_signal_gives_the_same_result(uninterrupted, tmp_path, name, code):
    """kill -9 goes back to the checkpoint of step 4; SIGTERM finishes step 5, saves it and exits with 143."""
    script = Path(__file__).with_name("tiny_stage.py")
    environment = os.environ | {"PYTHONPATH": str(script.parents[1])}
    command = [sys.executable, str(script), str(tmp_path / "run"), "5", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    saved = [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert saved == ([2, 4] if name == "SIGKILL" else [4, 5])
    assert ("continue with --resume" in done.stderr) == (name == "SIGTERM")
    tiny_stage(tmp_path / "run", resume=True)
    assert same_results(uninterrupted, tmp_path / "run")


def test_a_signal_inside_a_step_takes_effect_at_its_end_and_handlers_are_restored(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as stop:
        tiny_stage(tmp_path / "run", during=lambda run, step: os.kill(os.getpid(), signal.SIGINT))
    assert stop.value.code == 130
    assert [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")] == [1]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_incomplete_lines_and_checkpoints_are_ignored(uninterrupted, tmp_path):
    with pytest.raises(Crash):
        tiny_stage(tmp_path / "run", during=crash_at(4))
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    (tmp_path / "run" / "checkpoints" / ".partial-1-step-000004").mkdir()
    tiny_stage(tmp_path / "run", resume=True)
    assert same_results(uninterrupted, tmp_path / "run")


def test_resume_without_a_checkpoint_starts_from_the_beginning(uninterrupted, tmp_path):
    tiny_stage(tmp_path / "run", resume=True)
    assert same_results(uninterrupted, tmp_path / "run")


def test_a_folder_with_another_run_is_refused_and_unchanged(uninterrupted):
    before = sorted((path, path.stat().st_mtime_ns) for path in uninterrupted.rglob("*"))
    with pytest.raises(UserError, match="holds a run; continue it with --resume, or choose another output"):
        tiny_stage(uninterrupted)
    assert sorted((path, path.stat().st_mtime_ns) for path in uninterrupted.rglob("*")) == before


def test_a_finished_run_is_not_repeated(uninterrupted, capsys):
    before = (uninterrupted / "metrics.jsonl").stat().st_mtime_ns
    assert tiny_stage(uninterrupted, resume=True, during=crash_at(1)) == uninterrupted
    assert "is finished" in capsys.readouterr().err
    assert (uninterrupted / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_changed_config_is_refused_except_for_resumable_changes(uninterrupted, tmp_path):
    with pytest.raises(Crash):
        tiny_stage(tmp_path / "run", during=crash_at(4))
    with pytest.raises(UserError, match=r"lr \(0.01 -> 0.02\), beta2 \(0.95 -> 0.9\)"):
        tiny_stage(tmp_path / "run", resume=True, lr=0.02, beta2=0.9)
    tiny_stage(tmp_path / "run", resume=True, save_every=3, keep_checkpoints=1, sample_every=2)
    assert same_results(uninterrupted, tmp_path / "run")


def test_changed_data_is_refused(tmp_path):
    """The arguments are the same, but the data file has grown."""
    with pytest.raises(Crash):
        tiny_stage(tmp_path / "run", during=crash_at(4), steps=9)
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("records: 10", "records: 11"))
    with pytest.raises(UserError, match=r"saved sizes \[10\] are not those of this data, \[11\]"):
        tiny_stage(tmp_path / "run", resume=True, records=11, steps=9)


def test_a_non_finite_loss_stops_the_run_and_saves_the_state_before_it(uninterrupted, tmp_path):
    """The saved state equals an ordinary checkpoint of the step before."""

    def spoil(run, step):
        if step == 3:
            for parameter in run._tracked["learner"].modules[0].parameters():
                parameter.data.fill_(float("nan"))
            run.saved_state = load_checkpoint(run.save())

    with pytest.raises(NonFiniteError, match="step 4: the loss is not finite") as error:
        tiny_stage(tmp_path / "run", during=spoil)
    (step, path), = list_checkpoints(tmp_path / "run" / "nan_checkpoint")  # fmt: skip
    assert step == 3
    assert str(path) in str(error.value)
    saved_state, ordinary = load_checkpoint(path), load_checkpoint(tmp_path / "run" / "checkpoints" / "step-000003")
    assert saved_state["tracked"]["order"] == ordinary["tracked"]["order"]
    assert torch.equal(saved_state["random"]["torch"], ordinary["random"]["torch"])
    assert torch.equal(saved_state["generators"]["data"], ordinary["generators"]["data"])
    assert saved_state["tracked"]["learner"]["updates"] == 3
    assert len(metrics(tmp_path / "run")) == 3
