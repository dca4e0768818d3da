"""A mixture whose shares change in the decay phase: which data each step draws, and resuming inside that phase."""

from itertools import pairwise

import pytest
from cases import run_case
from test_stage_resume import Killed, at_update, die
from tiny_files import read_metrics, weight_bytes, write_jsonl_file

from zhenlong.errors import UserError

WSD = {"schedule": "wsd", "steps": 10, "decay_fraction": 0.4, "warmup_steps": 2, "batch_size": 4}


@pytest.fixture
def phased(tmp_path):
    """Two sources whose rows all have one length each, the first for the stable phase, the second for the decay."""
    short = write_jsonl_file(tmp_path / "short.jsonl", [conversation("ab"[i % 2], 1) for i in range(5)])
    long = write_jsonl_file(tmp_path / "long.jsonl", [conversation("cd"[i % 2], 21) for i in range(5)])
    return f"{short}*1/0.25,{long}*0/0.75"


def conversation(letter, length):
    return {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": letter * length}]}


def test_the_decay_phase_draws_by_its_own_shares(files, tmp_path, phased):
    run = run_case("sft", files, tmp_path / "run", data=phased, **WSD)
    total = [0, *(line["tokens"] for line in read_metrics(run))]
    steps = [after - before for before, after in pairwise(total)]
    assert len(set(steps[:6])) == 1
    assert set(steps[6:]) == {steps[0] + 3 * 20}


def test_killed_in_the_decay_phase_and_resumed(files, tmp_path, phased):
    whole = run_case("sft", files, tmp_path / "whole", data=phased, save_every=3, **WSD)
    with at_update("sft", 9, die), pytest.raises(Killed):
        run_case("sft", files, tmp_path / "run", data=phased, save_every=3, **WSD)
    run = run_case("sft", files, tmp_path / "run", data=phased, save_every=3, resume=True, **WSD)
    assert weight_bytes(run) == weight_bytes(whole)
    assert read_metrics(run) == read_metrics(whole)


def test_an_epoch_counts_each_source_as_often_as_it_is_said_to_be_seen(files, tmp_path):
    path = write_jsonl_file(tmp_path / "rows.jsonl", [conversation("a", 3) for _ in range(6)])
    settings = {**WSD, "steps": 0, "epochs": 2, "schedule": "constant"}
    run = run_case("sft", files, tmp_path / "run", data=f"{path}+epochs=3", **settings)
    assert read_metrics(run)[-1]["step"] == 2 * 3 * 6 // 4


def test_weights_for_a_phase_need_the_schedule_and_a_stage_that_have_one(files, tmp_path, phased):
    with pytest.raises(UserError, match="weights for the decay phase need --schedule wsd"):
        run_case("sft", files, tmp_path / "run", data=phased, **{**WSD, "schedule": "cosine"})
    pairs = files["pairs"]
    with pytest.raises(UserError, match="weights for the decay phase need pretrain and sft"):
        run_case("dpo", files, tmp_path / "run", data=f"{pairs}*1/2,{pairs}*2/1")
    with pytest.raises(UserError, match="decay_data: the data has weights for the decay phase already"):
        run_case("pretrain", files, tmp_path / "run", data=phased, decay_data="x", **WSD)
    assert not (tmp_path / "run").exists()
