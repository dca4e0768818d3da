"""PPO and GRPO: on policy at first, towards what is paid for, and nowhere when nothing is."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from cases import CASES, run_case
from safetensors.torch import load_file
from tiny import tiny_model
from tiny_files import TASKS, read_metrics, write_jsonl_file
from transformers import AutoModelForCausalLM

from zhenlong.errors import UserError
from zhenlong.forest import make_microbatches
from zhenlong.loop import Learner, TrainingOptions
from zhenlong.models import load_model
from zhenlong.objectives.advantage import GAESettings
from zhenlong.objectives.kl import KLController
from zhenlong.stages import grpo as grpo_stage
from zhenlong.stages import ppo as ppo_stage
from zhenlong.stages.grpo import GRPOSettings, grpo_loss
from zhenlong.stages.rollout import Group, RolloutBuffer, token_log_probs

POLICY = [case for case, (stage, _) in CASES.items() if stage in ("ppo", "grpo")]
FIRST = {"batch_size": 8, "update_epochs": 1, "steps": 1}  # one rollout, one update


def ascii_share(prompts, responses):
    """Pays for every character below 128: about half of what a random byte model says."""
    return [sum(map(str.isascii, response)) / 8 for response in responses]


def always_half(prompts, responses):
    return [0.5 for _ in responses]


@pytest.fixture(scope="module")
def pays(tmp_path_factory):
    """Rewards as files of one function, by name, as the command line takes them."""
    folder = tmp_path_factory.mktemp("rewards")
    bodies = {
        "ascii": "[sum(map(str.isascii, response)) / 8 for response in responses]",
        "half": "[0.5 for _ in responses]",
        "nan": "[float('nan') for _ in responses]",
        "short": "[1.0 for _ in responses][1:]",
        "text": "['good' for _ in responses]",
    }
    for name, body in bodies.items():
        (folder / f"{name}.py").write_text(f"def worth(prompts, responses):\n    return {body}\n")
    return {name: f"{folder / name}.py:worth" for name in bodies}


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("case", POLICY)
def test_the_first_update_is_on_policy(case, lora_rank, files, tmp_path, pays):
    """The sampler's log-probabilities are the forest's, and the policy is its reference."""
    settings = {**FIRST, "lora_rank": lora_rank, "temperature": 0.7, "reward": pays["ascii"]}
    first = read_metrics(run_case(case, files, tmp_path / "run", **settings))[0]
    assert first["ratio"] == pytest.approx(1, abs=1e-4)
    assert first["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert first["clip_fraction"] == 0
    if "kl" in first:
        assert first["kl"] == pytest.approx(0, abs=1e-4)
    assert 0 < first["entropy"] <= math.log(259)


@pytest.mark.parametrize("case", ["ppo", "ppo-separate", "grpo", "rloo", "dapo"])
def test_what_is_paid_for_becomes_more_frequent(case, files, tmp_path, pays):
    stage = CASES[case][0]
    ppo = {
        "rollout_prompts": 32, "update_epochs": 2, "batch_size": 16, "steps": 60, "kl_coef": 0.01, "critic_lr": 1e-2,
    }  # fmt: skip
    own = {"ppo": ppo, "grpo": {"steps": 15}}
    run = run_case(case, files, tmp_path / "run", lr=1e-2, reward=pays["ascii"], **{"batch_size": 8, **own[stage]})
    earned = [line["reward"] for line in read_metrics(run) if "reward" in line]
    assert len(earned) == 15
    assert np.mean(earned[-3:]) > np.mean(earned[:3]) + 0.25


@pytest.mark.parametrize("case", ["grpo", "rloo", "dr_grpo", "dapo", "gspo", "cispo", "reinforce_pp_baseline"])
def test_equal_rewards_teach_a_group_nothing(case, files, tmp_path, pays):
    """Without a KL to pay for there is then no update, and no division by a spread of zero."""
    run = run_case(case, files, tmp_path / "run", reward=pays["half"], kl_coef=0.0)
    lines = read_metrics(run)
    assert all(line["skipped_update"] == 1 for line in lines)
    assert lines[0]["frac_groups_nonzero_std"] == 0
    before, after = load_file(f"{files['model']}/model.safetensors"), load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_entropy_bonus_counts_with_the_weights_of_the_loss_and_without_an_advantage(files, tmp_path, pays):
    policy = tiny_model()
    ones = np.ones(3, np.float32)
    group = Group(0, [1, 2], [[3, 4], [5]], ["", ""], [False, False], [0.0, 0.0], old_log_probs=-ones)
    group.advantages, group.loss_mask = ones, ones
    (batch,) = make_microbatches([group.tree], 4096, torch.device("cpu"))
    plain, bonus = (
        grpo_loss(policy, [group], GRPOSettings(kl_coef=0.0, entropy_coef=weight), batch).total for weight in (0.0, 0.5)
    )
    weights = torch.tensor([0.5, 0.5, 1.0])  # of the mean over each response
    expected = 0.5 * (weights * token_log_probs(policy, 1.0, batch.forest)).sum()
    torch.testing.assert_close(bonus - plain, expected)
    run = run_case("grpo", files, tmp_path / "run", reward=pays["half"], kl_coef=0.0, entropy_coef=0.1, steps=1)
    assert "skipped_update" not in read_metrics(run)[0]


def test_with_a_kl_to_pay_for_equal_rewards_make_no_nan(files, tmp_path, pays):
    run = run_case("grpo", files, tmp_path / "run", reward=pays["half"], kl_coef=0.1, steps=4, rollout_prompts=4)
    assert all(math.isfinite(line["loss"]) for line in read_metrics(run))


def test_equal_rewards_and_no_kl_leave_ppo_finite(files, tmp_path, pays):
    run = run_case("ppo", files, tmp_path / "run", reward=pays["half"], kl_coef=0.0, whiten_rewards=True)
    assert all(math.isfinite(line["loss"]) for line in read_metrics(run))


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nan", r"expected a finite number for response 0 .*got nan"),
        ("short", r"expected \d+ numbers, one per response, got \d+"),
        ("text", r"expected a finite number .*got 'good'"),
    ],
)
def test_a_reward_must_give_one_finite_number_an_answer(stage, kind, said, files, tmp_path, pays):
    with pytest.raises(UserError, match=said):
        run_case(stage, files, tmp_path / "run", reward=pays[kind])
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob(".*"))


def test_dynamic_sampling_trains_on_groups_that_vary(files, tmp_path, monkeypatch):
    """A rare reward: most groups are all 0. Those that are learned from are not."""
    seen = []
    fill = RolloutBuffer.fill
    monkeypatch.setattr(RolloutBuffer, "fill", lambda buffer, groups, *rest: seen.extend(groups)
                        or fill(buffer, groups, *rest))  # fmt: skip
    settings = {
        "reward": "regex:[a-c]",
        "dynamic_sampling_rounds": 6,
        "rollout_prompts": 8,
        "steps": 2,
        "batch_size": 8,
        "max_tokens": 4,
    }
    run = run_case("dapo", files, tmp_path / "run", **settings)
    first = read_metrics(run)[0]
    assert first["frac_groups_nonzero_std"] < 1
    assert first["dynamic_sampling_rounds"] >= 1
    assert seen
    assert all(len(set(group.rewards)) == 2 for group in seen)


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_samples_show_the_prompt_the_answer_and_its_reward(stage, files, tmp_path, pays):
    run = run_case(stage, files, tmp_path / "run", reward=pays["ascii"], sample_every=1)
    found = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    asked = {row["question"] for row in TASKS}
    assert {row["prompt"][0]["content"] for row in found} <= asked
    assert [row["reward"] for row in found] == ascii_share(None, [row["response"] for row in found])


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_a_prompt_without_room_for_an_answer_is_an_error(stage, files, tmp_path):
    data = write_jsonl_file(tmp_path / "long.jsonl", [*TASKS, {"question": "x" * 500, "answer": "y"}])
    with pytest.raises(UserError, match=r"task 6: the prompt has \d+ tokens"):
        run_case(stage, files, tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()


WRONG = [
    ("grpo", {"samples_per_prompt": 1}),
    ("grpo", {"rollout_prompts": 0}),
    ("grpo", {"clip_low": -0.1}),
    ("grpo", {"temperature": 0.0}),
    ("grpo", {"max_tokens": 0}),
    ("ppo", {"update_epochs": 0}),
    ("ppo", {"max_tokens": 0}),
    ("ppo", {"temperature": 0.0}),
    ("ppo", {"temperature": -1.0}),
    ("ppo", {"gamma": 1.5}),
    ("ppo", {"kl_coef": -1.0}),
    ("ppo", {"ptx_coef": 0.5}),
    ("ppo", {"critic_model": "model"}),
    ("ppo", {"reward": "sometimes"}),
    ("grpo", {"reward": "model:"}),
]


@pytest.mark.parametrize(("stage", "wrong"), WRONG)
def test_settings_without_meaning_are_refused_before_anything_is_written(stage, wrong, files, tmp_path):
    with pytest.raises(UserError, match=next(iter(wrong))):
        run_case(stage, files, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss_aggregation", ["token", "sequence", "constant"])
def test_masked_answers_leave_the_loss_and_its_count(loss_aggregation, files, tmp_path):
    """A group with a cut-off answer masked teaches what the group without that answer would."""
    full = group([[5, 6], [7, 8, 9], [10, 11, 12, 13]], [1.0, -1.0, 0.5], loss_mask=[1, 1, 0])
    without = group([[5, 6], [7, 8, 9]], [1.0, -1.0], loss_mask=[1, 1])
    moved = [step_of(files["model"], one, loss_aggregation) for one in (full, without)]
    assert moved[0] == pytest.approx(moved[1], abs=1e-6)


def group(responses, advantages, loss_mask):
    lengths = [len(response) for response in responses]
    blank = [""] * len(responses)
    return Group(
        0, [1, 2, 3], responses, blank, [False] * len(responses), list(advantages),
        old_log_probs=np.full(sum(lengths), -5.5, np.float32),
        advantages=np.repeat(np.asarray(advantages, np.float32), lengths),
        loss_mask=np.repeat(np.asarray(loss_mask, np.float32), lengths),
    )  # fmt: skip


def step_of(name, one, loss_aggregation):
    """Loss and gradient norm of one GRPO step on a group."""
    policy, _ = load_model(name, device="cpu")
    options = TrainingOptions(lr=1e-3)
    learner = Learner(policy, options, 1)
    settings = grpo_stage.GRPOSettings(loss_aggregation=loss_aggregation, kl_coef=0.0, max_tokens=8)
    loss = partial(grpo_stage.grpo_loss, policy, [one], settings)
    metrics = learner.step(make_microbatches([one.tree], 4096), loss, grpo_stage._loss_count([one], settings))
    return metrics["loss"], metrics["grad_norm"]


def test_ptx_alone_is_supervised_fine_tuning(files, tmp_path, pays):
    """With nothing else to learn (equal rewards, no KL, no value loss) the demonstrations become more probable."""
    settings = {"reward": pays["half"], "kl_coef": 0.0, "value_coef": 0.0, "ptx_data": "demonstrations"}
    run = run_case("ppo", files, tmp_path / "run", ptx_coef=1.0, steps=8, batch_size=4, lr=5e-3, **settings)
    lines = read_metrics(run)
    assert lines[-1]["ptx_loss"] < lines[0]["ptx_loss"] - 0.5


def test_the_price_of_kl_is_steered_to_its_target(files, tmp_path, pays):
    """Below the target from the first rollout on, so the coefficient falls."""
    settings = {
        "reward": pays["half"],
        "kl_target": 1.0,
        "kl_horizon": 8.0,
        "rollout_prompts": 4,
        "steps": 5,
        "batch_size": 4,
    }
    lines = read_metrics(run_case("ppo-adaptive", files, tmp_path / "run", **settings))
    coefficients = [line["kl_coef"] for line in lines]
    assert coefficients == sorted(coefficients, reverse=True)
    assert coefficients[-1] < coefficients[0]


def test_a_token_returns_the_score_less_the_price_of_the_kl_still_to_pay():
    """G_t = R - beta * sum of k1 from t on, with gamma and lambda 1; the score stands on the last token only."""
    one = group([[5, 6, 7], [8, 9]], [0.0, 0.0], loss_mask=[1, 1])
    kl = np.asarray([0.5, -0.25, 1.0, 2.0, 0.125], np.float32)
    one.reference_log_probs, one.values = one.old_log_probs - kl, np.full(5, 0.3, np.float32)
    plain = ppo_stage.PPOSettings(0.2, 0.0, 0.2, 0.1, 0.0, GAESettings(1.0, 1.0), 0.0, False, 1.0)
    found = ppo_stage._add_advantages([one], torch.tensor([2.0, -1.0]), KLController(0.1), plain)
    left = [0.5 - 0.25 + 1.0, -0.25 + 1.0, 1.0, 2.0 + 0.125, 0.125]
    assert one.returns == pytest.approx([r - 0.1 * k for r, k in zip([2, 2, 2, -1, -1], left, strict=True)])
    assert found["kl"] == pytest.approx(kl.sum() / 2)
    advantages = one.advantages
    assert advantages.mean() == pytest.approx(0, abs=1e-5)
    assert np.corrcoef(advantages, one.returns - 0.3)[0, 1] == pytest.approx(1, abs=1e-5)


def test_answers_that_are_cut_off_lose_the_penalty_and_the_others_do_not(files, tmp_path, pays):
    """The critic begins at 0, and with lambda 1 and no KL every token's return is its answer's score.

    So the first value loss is ½ score², averaged over tokens: those of the answers cut off, and those of the others.
    """
    reward, penalty, longest, rollouts = 0.5, 2.0, 64, 16
    settings = {"rollout_prompts": rollouts, "batch_size": rollouts, "max_tokens": longest, "steps": 1, "kl_coef": 0.0}
    settings |= {"gae_lambda": 1.0, "value_clip": 0.0, "truncation_penalty": penalty, "reward": pays["half"]}
    first = read_metrics(run_case("ppo", files, tmp_path / "run", **settings))[0]
    assert 0 < first["truncated_fraction"] < 1
    assert first["reward"] == reward  # as the reward gave it
    share = first["truncated_fraction"] * longest / first["response_tokens"]  # of all tokens
    expected = (share * (reward - penalty) ** 2 + (1 - share) * reward**2) / 2
    assert first["value_loss"] == pytest.approx(expected, abs=1e-4)


def test_the_critic_is_not_part_of_the_model_that_is_saved(files, tmp_path):
    run = run_case("ppo-separate", files, tmp_path / "run")
    names = {name for name, _ in AutoModelForCausalLM.from_pretrained(files["model"]).named_parameters()}
    assert set(load_file(run / "model" / "model.safetensors")) == names
