"""A stage that is killed and resumed ends with the bits of one that was not, inside a rollout buffer too."""

import os
import signal
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from cases import CASES, run_case
from tiny_files import read_metrics, weight_bytes

from zhenlong.errors import UserError
from zhenlong.loop import Interrupted
from zhenlong.loop.checkpoint import list_checkpoints

RESUMED = ["pretrain", "sft", "reward_model", "dpo", "orpo", "kto", "ppo", "ppo-separate", "ppo-ptx", "ppo-adaptive",
           "grpo", "dapo", "raft", "raft-correct", "derta"]  # fmt: skip
LONGER = {"steps": 7, "batch_size": 3, "warmup_steps": 2, "save_every": 2}


class Killed(Exception):
    pass


def long_case(case, files, output, **changes):
    """Seven steps over data of four or five rows: epochs end inside the run, and buffers of three or six steps too."""
    passes = {"update_epochs": 2} if CASES[case][0] in ("ppo", "grpo") else {}
    return run_case(case, files, output, **{**LONGER, **passes, **changes})


@contextmanager
def at_update(case, number, happens):
    """Make something happen as the stage comes to its update of that number."""
    module = import_module(f"zhenlong.stages.{CASES[case][0]}")
    update, calls = module.optimizer_step, []

    def watched(*given):
        calls.append(None)
        if len(calls) == number:
            happens()
        return update(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "optimizer_step", watched)
        yield


def die():
    raise Killed


@pytest.mark.parametrize("case", RESUMED)
def test_killed_in_the_fourth_update_and_resumed(case, files, tmp_path):
    whole = long_case(case, files, tmp_path / "whole")
    with at_update(case, 4, die), pytest.raises(Killed):
        long_case(case, files, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    assert [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")] == [2]
    resumed = long_case(case, files, tmp_path / "run", resume=True)
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert read_metrics(resumed) == read_metrics(whole)


@pytest.mark.parametrize("case", ["sft", "ppo", "grpo"])
def test_told_to_stop_it_finishes_the_step_and_goes_on_from_there(case, files, tmp_path):
    whole = long_case(case, files, tmp_path / "whole")
    terminate = partial(os.kill, os.getpid(), signal.SIGTERM)
    with at_update(case, 3, terminate), pytest.raises(Interrupted) as stop:
        long_case(case, files, tmp_path / "run", save_every=0)
    assert stop.value.code == 128 + signal.SIGTERM
    assert [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")] == [3]
    resumed = long_case(case, files, tmp_path / "run", save_every=0, resume=True)
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert read_metrics(resumed) == read_metrics(whole)


@pytest.mark.parametrize("case", ["ppo", "grpo"])
def test_a_reward_that_fails_once_costs_no_more_than_the_steps_since_the_checkpoint(case, files, tmp_path):
    """It fails on the second round of rollouts; mended, the run goes on and ends as if it had never failed."""
    rule = tmp_path / "rule.py"
    said = "return [sum(map(str.isascii, r)) / 8 for r in responses]"
    broken = (
        "import os\nrounds = []\ndef worth(prompts, responses):\n    rounds.append(1)\n    assert len(rounds) < 2\n"
    )
    rule.write_text(f"{broken}    {said}\n")
    with pytest.raises(UserError, match=r"worth: it raised AssertionError.*rule\.py, line 5"):
        long_case(case, files, tmp_path / "run", reward=f"{rule}:worth", save_every=1)
    rule.write_text(f"def worth(prompts, responses):\n    {said}\n")
    resumed = long_case(case, files, tmp_path / "run", reward=f"{rule}:worth", save_every=1, resume=True)
    whole = long_case(case, files, tmp_path / "whole", reward=f"{rule}:worth", save_every=1)
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert read_metrics(resumed) == read_metrics(whole)


def test_a_finished_run_is_left_as_it_is(files, tmp_path):
    run = run_case("sft", files, tmp_path / "run")
    before = {path: path.read_bytes() for path in sorted(Path(run).rglob("*")) if path.is_file()}
    assert run_case("sft", files, tmp_path / "run", resume=True) == run
    assert before == {path: path.read_bytes() for path in sorted(Path(run).rglob("*")) if path.is_file()}


@pytest.mark.parametrize("case", RESUMED)
def test_a_run_cannot_go_on_with_another_config(case, files, tmp_path):
    with at_update(case, 3, die), pytest.raises(Killed):
        long_case(case, files, tmp_path / "run")
    with pytest.raises(UserError, match=r"lr \(0\.001 -> 0\.5\)"):
        long_case(case, files, tmp_path / "run", resume=True, lr=0.5)
