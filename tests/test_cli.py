"""The command line: every mistake is one line and exit code 2 and leaves nothing behind; every option has help."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny import tiny_model
from tiny_files import DEMONSTRATIONS, PAIRS, model_folder, read_metrics, weight_bytes, write_files, write_jsonl_file

from zhenlong.api.deprecation import ZhenlongDeprecationWarning, warn_deprecated
from zhenlong.cli import main
from zhenlong.recipes import shipped_recipes
from zhenlong.registry import commands

STAGES = ["pretrain", "sft", "reward_model", "dpo", "kto", "ppo", "grpo", "raft", "derta"]
QUICK = ["--steps", "1", "--batch_size", "2", "--progress", "false", "--device", "cpu"]
DATA = {"pretrain": "documents", "sft": "demonstrations", "reward_model": "pairs", "dpo": "pairs", "kto": "ratings",
        "ppo": "tasks", "grpo": "tasks", "raft": "tasks", "derta": "safety"}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def refused(capsys, tmp_path):
    """Run a command that is a mistake: returns its one line, after checking that it left nothing in `out`."""

    def run(*arguments, left=()):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert stop.value.code == 2
        assert said.out == ""
        assert said.err.startswith("zhenlong: error: ")
        assert said.err.count("\n") == 1, said.err
        out = tmp_path / "out"
        found = sorted(str(path.relative_to(out)) for path in out.rglob("*")) if out.is_dir() else []
        assert found == sorted(left)
        assert out.is_dir() == bool(left)
        return said.err

    return run


def command(stage, files, tmp_path, **options):
    """A stage's command line, quick, from the tiny model and its data unless an option says otherwise."""
    given = {"model": files["model"], "data": files[DATA[stage]], "output": tmp_path / "out", **options}
    if stage in ("ppo", "grpo"):
        given = {"reward": "regex:[a-z]", "max_tokens": 4, "rollout_prompts": 2, **given}
    return [stage, *QUICK, *(part for name, value in given.items() for part in (f"--{name}", str(value)))]


def with_row(path, row, before):
    return write_jsonl_file(path, [*before, row])


TURNS = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
BAD_ROWS = {
    "shape": ("sft", {"messages": "Hi."}, DEMONSTRATIONS[:1], r"line 2: messages: expected a list of turns"),
    "missing field": ("dpo", {"prompt": "Hi.", "chosen": "Yes."}, PAIRS[:1], r"line 2: rejected: missing"),
    "mixed": ("sft", {"prompt": "Hi.", "completion": "Yes."}, DEMONSTRATIONS[:1], r"line 2: .*one format in a source"),
    "empty": ("dpo", {"prompt": "Hi.", "chosen": "Yes.", "rejected": " "}, PAIRS[:1], r"line 2: .*empty response"),
    "empty turn": ("sft", {"messages": [TURNS[0], {"role": "assistant", "content": ""}]}, DEMONSTRATIONS[:1],
                   r"line 2: messages: .*got an empty one"),
    "equal": ("dpo", {"prompt": "Hi.", "chosen": "Yes.", "rejected": "Yes."}, PAIRS[:1], r"line 2: .*to differ"),
    "role": ("sft", {"messages": [{"role": "robot", "content": "Hi."}, TURNS[1]]}, DEMONSTRATIONS[:1],
             r"line 2: messages\[0\]\.role: expected one of .*got 'robot'"),
    "no assistant": ("sft", {"messages": TURNS[:1]}, DEMONSTRATIONS[:1], r"line 2: .*at least one assistant turn"),
    "other kind": ("dpo", {"messages": TURNS}, [], r"cannot be read as Ranking"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_bad_row_is_named_by_file_and_line(what, files, tmp_path, refused):
    stage, row, before, said = BAD_ROWS[what]
    data = with_row(tmp_path / "rows.jsonl", row, before)
    line = refused(*command(stage, files, tmp_path, data=data))
    assert str(tmp_path / "rows.jsonl") in line
    assert re.search(said, line), line


@pytest.mark.parametrize("what", [name for name in BAD_ROWS if name not in ("other kind",)])
def test_a_bad_row_may_be_left_out_and_is_listed(what, files, tmp_path):
    stage, row, before, _ = BAD_ROWS[what]
    data = with_row(tmp_path / "rows.jsonl", row, before)
    main(command(stage, files, tmp_path, data=data, skip_bad_rows="true"))
    listed = json.loads((tmp_path / "out" / "skipped_data.json").read_text())
    assert listed["count"] == 1
    assert listed["rows"][0]["location"].endswith("rows.jsonl, line 2")


@pytest.mark.parametrize("stage", STAGES)
def test_data_that_is_not_there(stage, files, tmp_path, refused):
    missing = refused(*command(stage, files, tmp_path, data=tmp_path / "none.jsonl"))
    assert f"{tmp_path / 'none.jsonl'}: no such file" in missing
    (tmp_path / "empty.jsonl").write_text("")
    assert "the file is empty" in refused(*command(stage, files, tmp_path, data=tmp_path / "empty.jsonl"))
    (tmp_path / "broken.jsonl").write_text('{"messages": \n')
    broken = refused(*command(stage, files, tmp_path, data=tmp_path / "broken.jsonl"))
    assert re.search(r"broken\.jsonl, line 1: not valid JSON", broken)


def test_a_prompt_longer_than_the_context(files, tmp_path, refused):
    long = "x" * 600
    for stage, row in (
        ("sft", {"messages": [{"role": "user", "content": long}, TURNS[1]]}),
        ("dpo", {"prompt": long, "chosen": "a", "rejected": "b"}),
        ("reward_model", {"prompt": long, "chosen": "a", "rejected": "b"}),
        ("ppo", {"question": long, "answer": "a"}),
        ("grpo", {"question": long, "answer": "a"}),
    ):
        data = with_row(tmp_path / f"{stage}.jsonl", row, [])
        assert re.search(r"\d+ tokens.*512", refused(*command(stage, files, tmp_path, data=data)))


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_tokenizer_without_chat_template_and_none_chosen(stage, files, tmp_path, refused):
    bare = model_folder(tmp_path / "bare", template=None)
    line = refused(*command(stage, files, tmp_path, model=bare))
    assert "no chat template; choose one with --chat_template chatml|llama2|llama3" in line
    assert "unknown; expected auto, chatml" in refused(*command(stage, files, tmp_path, chat_template="mine"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_model_folder_without_safetensors(stage, files, tmp_path, refused):
    folder = tmp_path / "model"
    shutil.copytree(files["model"], folder)
    os.remove(folder / "model.safetensors")
    assert "no *.safetensors in" in refused(*command(stage, files, tmp_path, model=folder))
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle" in refused(*command(stage, files, tmp_path, model=folder))
    assert "no such folder" in refused(*command(stage, files, tmp_path, model=tmp_path / "nowhere"))


def test_a_reward_that_makes_no_sense(files, tmp_path, refused):
    (tmp_path / "rule.py").write_text("def good(prompts, responses):\n    return [1.0 for _ in responses]\n")
    for reward, said in (
        ("nonsense", "expected one of verifier"),
        (f"model:{files['model']}", "this is a language model"),
        (f"{tmp_path}/none.py:good", "no file"),
        (f"{tmp_path}/rule.py:bad", "has no function 'bad'"),
        ("regex:[", "regex"),
    ):
        assert said in refused(*command("grpo", files, tmp_path, reward=reward))


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
@pytest.mark.parametrize(
    ("body", "said"), [("float('nan') for _ in", "finite number"), ("1.0 for _ in [0] +", "numbers, one per response")]
)
def test_a_reward_that_breaks_its_promise(stage, body, said, files, tmp_path, refused):
    """No step was made by then, so nothing is left; mended, the same command runs."""
    (tmp_path / "rule.py").write_text(f"def worth(prompts, responses):\n    return [{body} responses]\n")
    arguments = command(stage, files, tmp_path, reward=f"{tmp_path}/rule.py:worth")
    assert said in refused(*arguments)
    (tmp_path / "rule.py").write_text("def worth(prompts, responses):\n    return [float(len(r)) for r in responses]\n")
    main(arguments)
    assert (tmp_path / "out" / "finished.json").exists()


def test_a_task_that_names_no_verifier(files, tmp_path, refused):
    """Found in the first rollout, and nothing is left of it but what was in the folder before."""
    prompts = write_jsonl_file(tmp_path / "prompts.jsonl", [{"prompt": "Hi."}])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    line = refused(*command("grpo", files, tmp_path, data=prompts, reward="verifier"), left=["notes.txt"])
    assert "verifier '' is not known" in line


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_that_holds_another_run(stage, files, tmp_path, refused, capsys):
    arguments = command(stage, files, tmp_path)
    main(arguments)
    capsys.readouterr()
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    there = [str(path.relative_to(out)) for path in out.rglob("*")]
    assert "this folder holds a run; continue it with --resume" in refused(*arguments, left=there)
    changed = refused(*arguments, "--resume", "--lr", "0.7", left=there)
    assert re.search(r"this changed: lr \(.* -> 0\.7\)", changed)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    main([*arguments, "--resume"])
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_folder_that_holds_the_runs_of_a_recipe(files, tmp_path, refused):
    out = tmp_path / "out"
    out.mkdir()
    (out / "progress.json").write_text("{}")
    for more in ([], ["--resume"]):
        line = refused(*command("sft", files, tmp_path), *more, left=["progress.json"])
        assert "holds the runs of a recipe; choose another output" in line


@pytest.mark.parametrize("stage", STAGES)
def test_a_loss_that_is_not_finite(stage, files, tmp_path, capsys):
    """One weight is infinite. The weights from before the step are saved, and no model is made."""
    folder = tmp_path / "model"
    shutil.copytree(files["model"], folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SystemExit) as stop:
        main(command(stage, files, tmp_path, model=folder))
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "finite" in said[0]
    assert not (tmp_path / "out" / "model").exists()
    assert not list(tmp_path.rglob(".partial-*"))


def test_a_step_too_long_for_floating_point(files, tmp_path, refused):
    line = refused(
        *command("sft", files, tmp_path, lr="1e30", warmup_steps=0, steps=4, save_every=0, max_grad_norm=0),
        left=["config.yaml", "metrics.jsonl", "nan_checkpoint", "nan_checkpoint/step-000001",
              "nan_checkpoint/step-000001/state.json", "nan_checkpoint/step-000001/state.safetensors"],
    )  # fmt: skip
    assert re.search(r"step 2: the (loss|gradient) is not finite on records \d", line)
    assert "the state before it is in" in line


@pytest.mark.parametrize("stage", STAGES)
def test_an_output_that_cannot_be_written(stage, files, tmp_path, refused):
    (tmp_path / "file").write_text("")
    line = refused(*command(stage, files, tmp_path, output=tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in line
    assert "cannot be written" in line or "cannot" in line
    assert "this is a file" in refused(*command(stage, files, tmp_path, output=tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_an_output_that_is_read_only(files, tmp_path, refused):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot be written" in refused(*command("sft", files, tmp_path, output=tmp_path / "locked" / "run"))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fills", ["at once", "when the model is saved"])
def test_a_full_disk(stage, fills, files, tmp_path, monkeypatch, capsys):
    """Every rename fails, or those of the model's folder: one line, and no file under a final name or a partial one."""
    replace = os.replace

    def full(source, target):
        if fills == "at once" or Path(target).name == "model":
            raise OSError(28, "No space left on device")
        return replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystemExit) as stop:
        main(command(stage, files, tmp_path))
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "No space left on device" in said[0]
    out = tmp_path / "out"
    assert not (out / "model").exists()
    assert not (out / "finished.json").exists()
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("stage", STAGES)
def test_options_that_are_no_options(stage, files, tmp_path, refused):
    for extra, said in (
        (["--no_such_option", "1"], "no_such_option"),
        (["--lr", "fast"], "lr"),
        (["--batch_size", "0"], "batch_size: expected a whole number of 1 or more"),
        (["--schedule", "sometimes"], "schedule"),
        (["--lr", "-1"], "lr: expected"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--max_length", "-5"], "max_length"),
        (["--steps"], "steps"),
        (["--config", str(tmp_path / "none.yaml")], "none.yaml"),
    ):
        assert said in refused(*command(stage, files, tmp_path), *extra)


@pytest.mark.parametrize("stage", STAGES)
def test_the_precision_asked_for_is_that_of_the_steps(stage, files, tmp_path, monkeypatch):
    used = []

    def autocast(dtype, device):
        used.append(dtype)
        return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)

    monkeypatch.setattr("zhenlong.loop.learner.autocast", autocast)
    main(command(stage, files, tmp_path, dtype="bfloat16"))
    assert set(used) == {torch.bfloat16}


def test_what_is_required_and_not_given(refused):
    for stage in STAGES:
        assert "data" in refused(stage, "--output", "out")


@pytest.mark.parametrize(
    "text", ["steps: [1, 2", "no_such_option: 1\n", "steps: many\n", "- a\n- b\n", "just text\n", "lr: 1e-3\n\tb: 2\n"]
)
def test_a_config_that_cannot_be_read(text, files, tmp_path, refused):
    (tmp_path / "bad.yaml").write_text(text)
    assert "zhenlong sft" in refused(*command("sft", files, tmp_path), "--config", tmp_path / "bad.yaml")


def test_a_command_that_is_no_command(refused):
    assert "trian: no such command; expected one of pretrain, sft" in refused("trian")


@pytest.mark.parametrize("name", [name for name in commands() if name != "run"])
def test_every_option_says_what_it_is(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    options = re.findall(r"^  (?:-\w, )?(--[\w.]+)(.*(?:\n {3,}.*)*)", said, re.MULTILINE)
    assert len(options) >= 3
    for option, text in options:
        words = re.sub(r"\(.*?\)|[A-Z_]{2,}|\{.*?\}", "", text).split()
        assert len(words) >= 2, f"{name} {option} has no help"


def test_a_group_of_commands_lists_them_and_refuses_others(capsys, refused):
    main(["data"])
    said = capsys.readouterr().out
    assert all(f"  data {name} " in said for name in ("validate", "convert", "profile", "contamination"))
    assert "sft" not in said
    assert "data clean: no such command; expected one of data validate" in refused("data", "clean")


def test_the_overview_names_every_command(capsys):
    main([])
    assert all(f"  {name} " in capsys.readouterr().out for name in list(commands())[:1])
    main(["--help"])
    said = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\w", said, re.MULTILINE) for name in commands())


def test_a_recipe_says_how_it_is_run(capsys):
    main(["run", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: zhenlong run <recipe> ")
    assert all(re.search(rf"^  {name} +\w", said, re.MULTILINE) for name in shipped_recipes())


def test_a_recipe_that_is_none_is_refused_with_the_nearest_name(refused, tmp_path):
    assert (
        "demoo: no such recipe; did you mean demo? expected the path of a YAML file, or one of classify, demo"
        in refused("run", "demoo")
    )
    assert "none.yaml: cannot be read as YAML" in refused("run", tmp_path / "none.yaml")


def test_a_warning_is_one_line_too(files, tmp_path, capsys):
    """BLOOM's attention is not the forest's: it is served another way, and that is said once."""
    main(command("sft", files, tmp_path, model=model_folder(tmp_path / "bloom", "bloom")))
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line.lower()]
    assert len(said) == 1
    assert re.fullmatch(r"zhenlong: warning: BloomForCausalLM: using the padded layout, .*", said[0])


def test_options_of_a_file_and_of_the_command_line(files, tmp_path):
    """The command line wins, wherever it stands."""
    config = {"model": files["model"], "data": files["demonstrations"], "steps": 3, "lr": 0.25, "batch_size": 2}
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(config))
    quiet = ["--progress", "false", "--device", "cpu", "--output", str(tmp_path / "out")]
    main(["sft", *quiet, "--config", str(tmp_path / "sft.yaml"), "--steps", "2"])
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (saved["steps"], saved["lr"], saved["batch_size"]) == (2, 0.25, 2)
    assert len(read_metrics(tmp_path / "out")) == 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_printed_config_makes_the_same_run(stage, files, tmp_path, capsys):
    arguments = command(stage, files, tmp_path, lr="3e-3")
    main(arguments)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--print_config"])
    assert stop.value.code == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    main([stage, "--config", str(tmp_path / "printed.yaml"), "--output", str(tmp_path / "again")])
    assert weight_bytes(tmp_path / "out") == weight_bytes(tmp_path / "again")


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_is_made_again_from_its_own_config(stage, files, tmp_path):
    main(command(stage, files, tmp_path, lr="3e-3", seed=3))
    main([stage, "--config", str(tmp_path / "out" / "config.yaml"), "--output", str(tmp_path / "again")])
    assert weight_bytes(tmp_path / "out") == weight_bytes(tmp_path / "again")


def test_a_reader_that_goes_away_ends_the_command_quietly():
    script = "from zhenlong.cli import main; main(['--help'])"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate()
    assert (process.returncode, err) == (128 + signal.SIGPIPE, b"")


def test_a_command_that_requires_nothing_runs_without_options(capsys):
    main(["scenarios"])
    assert "gsm8k" in capsys.readouterr().out


def test_a_bare_flag_means_true(files, tmp_path, capsys):
    main(command("sft", files, tmp_path))
    main([*command("sft", files, tmp_path), "--resume"])
    assert "is finished; nothing to resume" in capsys.readouterr().err
    one = command("sft", files, tmp_path, output=tmp_path / "one")
    main([one[0], "--skip_bad_rows", "--gradient_checkpointing", *one[1:]])
    saved = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    assert saved["skip_bad_rows"] is True
    assert saved["gradient_checkpointing"] is True
    assert saved["tensorboard"] is False


def test_the_process_itself(files, tmp_path):
    """The installed command: 0 and a run folder, or 2 and one line without a traceback."""
    arguments = command("grpo", files, tmp_path)
    run = [sys.executable, "-c", "from zhenlong.cli import main; main()"]
    wrong = subprocess.run([*run, *arguments, "--data", "nowhere.jsonl"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "zhenlong: error: nowhere.jsonl: no such file; check the path\n"
    assert not (tmp_path / "out").exists()


def test_the_report_takes_its_folder_by_position_and_says_what_it_made(capsys, files, tmp_path):
    run = tmp_path / "run"
    main(
        [
            "sft",
            "--model",
            str(model_folder(tmp_path / "m")),
            "--data",
            str(files["demonstrations"]),
            "--output",
            str(run),
            *QUICK,
        ]
    )
    capsys.readouterr()
    main(["report", str(run)])
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"


def test_a_deprecation_of_our_own_is_shown_and_those_of_libraries_are_not(files, tmp_path, capsys, monkeypatch):
    """In one line, however often a program has warned before."""
    with pytest.warns(ZhenlongDeprecationWarning):
        warn_deprecated("--old", "--new", "0.4", stacklevel=2)

    def validate(sources: str, *, kind: str = "") -> None:
        """Validate."""
        warnings.warn("library: soon gone", FutureWarning, stacklevel=1)
        warn_deprecated("--old", "--new", "0.4", stacklevel=2)

    monkeypatch.setattr("zhenlong.data.commands.validate", validate)
    main(["data", "validate", "x"])
    assert capsys.readouterr().err == ("zhenlong: warning: --old is deprecated and will be removed in 0.4; use --new\n")
