"""Best of n and RAFT: what they keep, what they learn from it, and that an interruption changes nothing."""

import json
import math
from importlib import import_module

import numpy as np
import pytest
from cases import run_case
from tiny_files import QUICK, TASKS, read_metrics, write_jsonl_file

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.objectives.best_of_n import best_of_kl
from zhenlong.records import Demonstration
from zhenlong.stages.best_of_n import best_of_n
from zhenlong.stages.raft import select_groups
from zhenlong.stages.rollout import Group

ASCII = "def worth(prompts, responses):\n    return [sum(map(str.isascii, r)) / 8 for r in responses]\n"
ENDS = {"max_tokens": 24, "temperature": 1.0}


@pytest.fixture(scope="module")
def ascii_share(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("rewards") / "share.py"
    path.write_text(ASCII)
    return f"{path}:worth"


@pytest.fixture(scope="module")
def short_answers(files, tmp_path_factory) -> str:
    """A model whose answers come to an end: fine-tuned on a few short ones."""
    from zhenlong.stages.sft import sft

    data = [{"messages": [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": said}]}
            for row in TASKS for said in ("a", "b", "5")]  # fmt: skip
    folder = tmp_path_factory.mktemp("short")
    output = folder / "sft"
    settings = {**QUICK, "steps": 40, "lr": 1e-2, "batch_size": 15}
    return str(
        sft(model=files["model"], data=write_jsonl_file(folder / "data.jsonl", data), output=str(output), **settings)
    )


def sampled(model, files, output, **changes):
    given = {"model": model, "data": files["tasks"], "samples_per_prompt": 4, **QUICK, **ENDS, **changes}
    given.pop("steps") if given.get("steps") == QUICK["steps"] else None
    return best_of_n(output=str(output), **given)


def results_of(run):
    return json.loads((run / "finished.json").read_text())["results"]


def test_the_best_answers_are_demonstrations_and_the_curve_is_that_of_their_rewards(
    files, short_answers, ascii_share, tmp_path
):
    run = sampled(short_answers, files, tmp_path / "run", reward=ascii_share, gold="regex:5", batch_size=2)
    found = results_of(run)
    assert (found["n"], found["prompts"]) == (4, len(TASKS))
    assert found["kl_bound"] == pytest.approx(best_of_kl(4))
    assert [point["n"] for point in found["expected"]] == [1, 2, 4]
    curve = [point["reward"]["mean"] for point in found["expected"]]
    assert curve == sorted(curve)
    lines = read_metrics(run)
    assert len(lines) == 3  # prompts 2 + 2 + 1
    sizes = np.array([2, 2, 1])
    assert curve[0] == pytest.approx(sizes @ [line["reward"] for line in lines] / 5)
    assert curve[-1] == pytest.approx(sizes @ [line["best_reward"] for line in lines] / 5)
    assert 0 <= found["expected"][-1]["gold"]["mean"] <= 1
    kept = read(str(run / "demonstrations.jsonl"), Demonstration)
    assert len(kept) == found["demonstrations"] > 0
    assert {one.messages[0].content for one in kept} <= {row["question"] for row in TASKS}
    assert all(one.meta["reward"] >= one.meta["mean_reward"] for one in kept)
    assert not (run / "model").exists()
    assert json.loads((run / "ledger.json").read_text())["sampled_tokens"] > 0


def test_best_of_n_killed_and_resumed_finds_the_same(files, short_answers, ascii_share, tmp_path, monkeypatch):
    settings = {"reward": ascii_share, "gold": "regex:5", "batch_size": 1, "save_every": 2}
    whole = sampled(short_answers, files, tmp_path / "whole", **settings)
    module = import_module("zhenlong.stages.best_of_n")
    generate_rollouts, calls = module.generate_rollouts, []

    def dies(*given):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return generate_rollouts(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, "generate_rollouts", dies)
        with pytest.raises(KeyboardInterrupt):
            sampled(short_answers, files, tmp_path / "run", **settings)
    assert not (tmp_path / "run" / "demonstrations.jsonl").exists()
    resumed = sampled(short_answers, files, tmp_path / "run", resume=True, **settings)
    assert len(calls) == 4
    for name in ("demonstrations.jsonl", "finished.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    assert read_metrics(resumed) == read_metrics(whole)


def test_answers_that_were_cut_off_are_no_demonstrations(files, ascii_share, tmp_path):
    run = sampled(files["model"], files, tmp_path / "run", reward=ascii_share, max_tokens=2)
    assert read_metrics(run)[0]["truncated_fraction"] > 0.9
    kept = (run / "demonstrations.jsonl").read_text().splitlines()
    assert len(kept) == results_of(run)["demonstrations"] < len(TASKS)


def group(texts, rewards, cut=None, record=0):
    responses = [[ord(letter) % 250 for letter in text] or [1] for text in texts]
    return Group(record, [1, 2], responses, list(texts), list(cut or [False] * len(texts)), list(rewards))


def test_raft_keeps_the_best_answer_that_came_to_an_end():
    groups = [
        group(["a", "b", "c"], [1.0, 3.0, 3.0]),
        group(["a", " ", "c"], [-1.0, 9.0, 5.0], [False, False, True]),
        group(["a"], [2.0], [True]),
    ]
    assert [one.texts for one in select_groups(groups, "best", -math.inf, 4)] == [["b"], ["a"]]
    assert [one.texts for one in select_groups(groups, "best", 0.0, 4)] == [["b"]]
    assert [one.texts for one in select_groups(groups, "best", -math.inf, 4, keep_truncated=True)] == [
        ["b"],
        ["c"],
        ["a"],
    ]


def test_expert_iteration_keeps_each_right_answer_once():
    groups = [
        group(["4", "five", "4 ", "It is 4", "four"], [1.0, 0.0, 1.0, 1.0, 1.0]),
        group(["4", "2 and 2"], [1.0, 1.0]),
        group(["4"], [1.0], record=1),
        group(["no"], [0.0], record=2),
    ]
    kept = select_groups(groups, "correct", 1.0, 2)
    assert [(one.task_index, one.texts) for one in kept] == [(0, ["4", "It is 4"]), (0, ["2 and 2"]), (1, ["4"])]
    assert kept[0].responses == [groups[0].responses[0], groups[0].responses[3]]
    assert select_groups(groups, "correct", 1.0, 0)[0].texts == ["4", "It is 4", "four"]


@pytest.mark.parametrize("keep", ["best", "correct"])
def test_what_is_kept_becomes_more_frequent(keep, files, tmp_path, ascii_share):
    """The share of ASCII rises, by the best of eight and by those of at least 0.6 alike."""
    settings = {"reward": ascii_share, "selection": keep, "reward_threshold": 0.6 if keep == "correct" else None}
    run = run_case("raft", files, tmp_path / "run", steps=10, lr=3e-2, batch_size=8, samples_per_prompt=8, **settings)
    lines = read_metrics(run)
    earned = [line["reward"] for line in lines if "reward" in line]
    assert np.mean(earned[-3:]) > np.mean(earned[:3]) + 0.2
    kept = [line for line in lines if "selected_reward" in line]
    assert all(line["selected_reward"] > line["reward"] for line in kept[:5])
    if keep == "best":
        assert all(line["selected_responses"] == 8 for line in kept)


def test_a_round_in_which_nothing_is_right_teaches_nothing(files, tmp_path):
    run = run_case("raft", files, tmp_path / "run", selection="correct", reward="regex:never", steps=2)
    lines = read_metrics(run)
    assert [line["skipped_update"] for line in lines] == [1.0, 1.0]
    assert lines[0]["selected_prompt_fraction"] == 0
    assert "selected_reward" not in lines[0]


def test_every_part_of_a_reward_is_in_the_metrics(files, tmp_path, ascii_share):
    spec = f"gate(regex:[a-z], {ascii_share}, -1) + overlong_penalty(8, 4)"
    for case in ("raft", "grpo", "ppo"):
        first = read_metrics(run_case(case, files, tmp_path / case, reward=spec, steps=1, batch_size=8))[0]
        gate, share, overlong = (
            first[f"reward/{name}"] for name in ("regex:[a-z]", ascii_share, "overlong_penalty(8, 4)")
        )
        assert first["reward"] == pytest.approx(gate * share - (1 - gate) + overlong)
        assert overlong < 0
    plain = read_metrics(run_case("grpo", files, tmp_path / "plain", reward=ascii_share, steps=1))[0]
    assert not any(name.startswith("reward/") for name in plain)


WRONG = [
    {"samples_per_prompt": 0},
    {"max_per_prompt": -1},
    {"reward_threshold": math.inf},
    {"temperature": 0.0},
    {"rollout_prompts": 0},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_of_raft_without_meaning_are_refused(wrong, files, tmp_path):
    with pytest.raises(UserError, match=next(iter(wrong))):
        run_case("raft", files, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong", [{"samples_per_prompt": 0}, {"temperature": 0.0}, {"evaluate_every": 5}, {"reward": "min(verifier)"}]
)
def test_so_are_those_of_best_of_n(wrong, files, tmp_path):
    with pytest.raises(UserError, match=next(iter(wrong))):
        sampled(files["model"], files, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()
