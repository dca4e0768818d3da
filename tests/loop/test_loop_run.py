"""The run folder: its files, when they appear, and that evaluation and loggers do not affect training."""

import io
import json
import random
import signal
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from tiny_stage import DEFAULTS, tiny_stage, write_weights

from zhenlong.data import Mixture
from zhenlong.errors import UserError
from zhenlong.loop import Interrupted, Learner, Run, StepLoss, TrainingOptions, eval_mode, seed_everything
from zhenlong.loop.loggers import ProgressBar
from zhenlong.loop.signals import StopSignals
from zhenlong.models.options import ModelOptions
from zhenlong.options import take_options


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_finished_run_folder_holds_all_files(tmp_path):
    run = tiny_stage(tmp_path / "run", sample_every=4)
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "metrics.jsonl", "samples.jsonl", "ledger.json", "checkpoints", "model", "finished.json",
    }  # fmt: skip
    metrics = rows(run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == list(range(1, 10))
    assert {"step", "loss", "lr", "grad_norm", "tokens", "tokens_per_second", "seconds"} <= metrics[0].keys()
    assert metrics[-1]["tokens"] == 36 * 8 == json.loads((run / "ledger.json").read_text())["tokens"]
    assert [row["step"] for row in rows(run / "samples.jsonl")] == [4, 8, 9]
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-000006", "step-000008"]


def test_training_lowers_the_loss(tmp_path):
    metrics = rows(tiny_stage(tmp_path / "run", epochs=12) / "metrics.jsonl")
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.5


def test_the_saved_config_makes_the_same_run(tmp_path):
    """config.yaml holds only arguments; versions are in its comments."""
    run = tiny_stage(tmp_path / "run", steps=2, schedule="wsd", seed=3)
    text = (run / "config.yaml").read_text()
    config = yaml.safe_load(text)
    assert config["records"] == 10
    del config["records"]
    model_options, options = take_options(config, ModelOptions(), TrainingOptions())
    assert model_options == ModelOptions(device="cpu")
    assert options == TrainingOptions(**(DEFAULTS | {"steps": 2, "schedule": "wsd", "seed": 3}))
    assert f"torch {torch.__version__}" in text.splitlines()[1]


def test_nothing_is_written_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match="at least one record"):
        tiny_stage(tmp_path / "run", records=0)
    assert not (tmp_path / "run").exists()


def test_an_output_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder for the run, but this is a file"):
        tiny_stage(tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        tiny_stage(tmp_path / "file" / "run")


def test_log_every_and_save_every_are_followed(tmp_path):
    run = tiny_stage(tmp_path / "run", log_every=4, save_every=0)
    assert [row["step"] for row in rows(run / "metrics.jsonl")] == [4, 8, 9]
    assert not (run / "checkpoints").exists()


def test_logs_of_one_step_are_merged_and_refused_outside_a_step(tmp_path):
    def log_more(run, step):
        run.log({"reward": float("nan"), "loss": 0})

    metrics = rows(tiny_stage(tmp_path / "run", during=log_more) / "metrics.jsonl")
    assert len(metrics) == 9
    assert (metrics[0]["loss"], metrics[0]["reward"]) == (0, None)
    with pytest.raises(RuntimeError, match="inside the loop"):
        Run(tmp_path / "other", {}, TrainingOptions(**DEFAULTS)).log({})


def disturb(run: Run, step: int) -> None:
    """Use every random generator, and use the model in eval mode."""
    with run.eval_mode():
        model = run._tracked["learner"].modules[0]
        assert not any(part.training for part in model.modules())
        assert not torch.is_grad_enabled()
        model(torch.zeros(1, 4, dtype=torch.long))
        random.random(), np.random.random(), torch.rand(3), run.generator("data").manual_seed(1)  # noqa: NPY002
        torch.rand(1, generator=run.generator("only here"))


def test_evaluation_never_changes_the_next_step(tmp_path):
    plain, disturbed = tiny_stage(tmp_path / "plain"), tiny_stage(tmp_path / "disturbed", during=disturb)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (plain, disturbed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_generator_first_used_in_evaluation_starts_afresh_in_training(tmp_path):
    run, other = (Run(tmp_path, {}, TrainingOptions()) for _ in range(2))
    with run.eval_mode():
        torch.rand(1, generator=run.generator("data"))
    assert torch.equal(*(torch.rand(5, generator=one.generator("data")) for one in (run, other)))


def test_eval_mode_restores_the_mode_of_each_submodule_even_after_an_error():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model.train()
    model[1].eval()
    with pytest.raises(KeyError), eval_mode(model):
        raise KeyError
    assert [model.training, model[0].training, model[1].training] == [True, True, False]


def test_seeds_differ_by_purpose_step_and_seed_and_by_nothing_else(tmp_path):
    seen: dict[tuple, int] = {}
    for seed in (0, 1):
        run = Run(tmp_path, {}, TrainingOptions(seed=seed))
        for run.step in (0, 1):
            seen |= {(seed, run.step, name): run.step_seed(name) for name in ("rollout", "evaluation")}
    assert len(set(seen.values())) == 8
    assert all(0 <= value < 2**63 for value in seen.values())
    assert Run(tmp_path, {}, TrainingOptions()).step_seed("rollout") == seen[0, 0, "rollout"]
    one, two = (Run(tmp_path, {}, TrainingOptions()) for _ in range(2))
    assert one.generator("a").initial_seed() == two.generator("a").initial_seed() != two.generator("b").initial_seed()


def test_one_seed_determines_every_global_generator():
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_results_mark_the_run_as_finished(tmp_path):
    def stage(**training):
        options = TrainingOptions(steps=1, progress=False, **training)
        with Run(tmp_path / "run", {}, options) as run:
            if run.finished:
                return None
            model, order = torch.nn.Linear(1, 1), Mixture([1])
            learner = Learner(model, options, 1)
            run.track(learner=learner, order=order)
            for _ in run.steps(1):
                learner.step([1], lambda _: StepLoss(model.weight.sum()), 1)
            return run.finish(model, None, write_weights, results={"accuracy": 0.75})

    run = stage()
    assert json.loads((run / "finished.json").read_text()) == {"steps": 1, "results": {"accuracy": 0.75}}
    assert stage(resume=True) is None


def test_notes_are_written_when_the_folder_is_created(tmp_path):
    with Run(tmp_path / "run", {}, TrainingOptions(progress=False)) as run:
        run.write_note("skipped.json", [3, 5])
        assert not run.output.exists()
        for _ in run.steps(1):
            run.write_note("cut.json", {"longest": 7})
            assert json.loads((run.output / "cut.json").read_text()) == {"longest": 7}
    assert json.loads((run.output / "skipped.json").read_text()) == [3, 5]


def test_progress_lines_without_a_terminal(tmp_path, capsys):
    tiny_stage(tmp_path / "run", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["tiny 1/9", "tiny 9/9"]
    assert all("loss " in line and "tokens/s" in line and line.endswith("s left") for line in lines)


def test_progress_can_be_disabled(tmp_path, capsys):
    tiny_stage(tmp_path / "run")
    assert capsys.readouterr() == ("", "")


def test_tensorboard_receives_the_metrics(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tiny_stage(tmp_path / "run", tensorboard=True)
    events = reader.EventAccumulator(str(run / "tensorboard")).Reload().Scalars("loss")
    losses = [(row["step"], row["loss"]) for row in rows(run / "metrics.jsonl")]
    assert [(event.step, event.value) for event in events] == [(step, pytest.approx(loss)) for step, loss in losses]


@pytest.mark.parametrize(
    ("option", "module"), [({"wandb": "project"}, "wandb"), ({"tensorboard": True}, "torch.utils.tensorboard")]
)
def test_a_missing_logger_package_names_the_extra(tmp_path, monkeypatch, option, module):
    monkeypatch.setitem(sys.modules, module, None)
    name = next(iter(option))
    with pytest.raises(UserError, match=rf"{name}: the package is not installed; .*zhenlong\[{name}\]"):
        tiny_stage(tmp_path / "run", **option)


def test_an_unavailable_device_is_refused(tmp_path):
    with pytest.raises(UserError, match="device: expected auto, cpu"):
        tiny_stage(tmp_path / "run", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device: 'cuda' is not available"):
            tiny_stage(tmp_path / "run", device="cuda")


def test_weights_and_biases_resumes_with_the_same_id(tmp_path, monkeypatch):
    """A stand-in for the package records its calls; the second run resumes the first."""
    calls = []

    class FakeRun(types.SimpleNamespace):
        def log(self, metrics, step):
            calls.append((self.id, step, metrics["loss"]))

        def finish(self):
            calls.append((self.id, "finish"))

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **settings: FakeRun(**settings)))

    def stop_at_4(run, step):
        if step == 4:
            raise KeyError

    with pytest.raises(KeyError):
        tiny_stage(tmp_path / "run", during=stop_at_4, wandb="project")
    run = tiny_stage(tmp_path / "run", wandb="project", resume=True)
    assert len({one[0] for one in calls}) == 1
    assert [one[1] for one in calls] == [1, 2, 3, "finish", 3, 4, 5, 6, 7, 8, 9, "finish"]
    assert calls[-2][2] == rows(run / "metrics.jsonl")[-1]["loss"]


def test_a_progress_bar_in_a_terminal():
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, force_terminal=True, width=120), "tiny", 2, 9)
    bar.log(5, {"step": 5, "loss": 1.25, "reward": 0.5, "tokens_per_second": 1234.5})
    bar.close()
    assert all(part in out.getvalue() for part in ("tiny", "5/9", "loss 1.25", "reward 0.5", "1,234 tokens/s"))


def test_two_simultaneous_runs_in_one_folder_are_refused(tmp_path):
    def start_another(run, step):
        with pytest.raises(UserError, match="another process is writing a run here"):
            tiny_stage(tmp_path / "run", resume=True, steps=2)

    assert len(rows(tiny_stage(tmp_path / "run", during=start_another, steps=2) / "metrics.jsonl")) == 2


def test_the_first_signal_waits_for_the_step_and_the_second_does_not():
    signals = StopSignals()
    signals.install()
    try:
        with pytest.raises(Interrupted) as outside:
            signal.raise_signal(signal.SIGTERM)
        signals.in_step = True
        signal.raise_signal(signal.SIGTERM)
        assert (outside.value.code, signals.received) == (143, signal.SIGTERM)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    finally:
        signals.restore()


def test_the_example_in_the_docs_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "loop.md").read_text()
    exec(text.split("```python\n")[1].split("```")[0], {})
    assert [row["step"] for row in rows(tmp_path / "runs" / "toy" / "metrics.jsonl")] == [1, 2, 3, 4]
