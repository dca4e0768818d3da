"""Configurations of verl, of its version of January 2026: the resolved file of a run, without `defaults`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zhenlong.migration.rules import ONE_DEVICE, LibraryRules, Mapped, StageRules, if_true, one_of


def _verl_stage(given: Mapping[str, Any]) -> str:
    return "ppo" if given.get("algorithm.adv_estimator", "gae") == "gae" else "grpo"


def _verl_data(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    files = given.get("data.train_files")
    if files is not None:
        options["data"] = ",".join(map(str, files)) if isinstance(files, list) else str(files)
        notes.append(
            "data: verl's rows hold prompt and reward_model.ground_truth; write the latter as the task's reference"
        )
    options.setdefault("rollout_prompts", options.get("batch_size"))


def _verl_grpo(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    estimator = given.get("algorithm.adv_estimator")
    options["advantage_baseline"] = "leave_one_out" if estimator == "rloo" else "mean"
    options["scale_rewards"] = (
        "group" if estimator == "grpo" and given.get("algorithm.norm_adv_by_std_in_grpo", True) else "none"
    )
    if estimator not in ("grpo", "rloo"):
        notes.append(f"algorithm.adv_estimator {estimator!r} has no counterpart; the file was read as grpo's")
    if not given.get("actor_rollout_ref.actor.use_kl_loss", False):
        options["kl_coef"] = 0.0
    if given.get("algorithm.use_kl_in_reward"):
        notes.append("algorithm.use_kl_in_reward: grpo has the KL in its loss only (kl_coef)")


def _verl_ppo(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    options["kl_coef"] = (
        given.get("algorithm.kl_ctrl.kl_coef", 0.001) if given.get("algorithm.use_kl_in_reward") else 0.0
    )
    if given.get("algorithm.kl_ctrl.type") == "adaptive":
        notes.append("algorithm.kl_ctrl: set kl_target (nats a response) and kl_horizon; verl's target is per token")
    options["critic"] = "separate"


_VERL_ACTOR: Final = "actor_rollout_ref.actor."
VERL: Final = LibraryRules(
    keys={
        "actor_rollout_ref.model.path": "model",
        "trainer.default_local_dir": "output",
        "trainer.total_epochs": "epochs",
        "trainer.save_freq": Mapped("save_every", lambda value: max(0, int(value))),
        "data.train_batch_size": "rollout_prompts",
        "data.max_response_length": "max_tokens",
        "data.filter_overlong_prompts": Mapped("overlong", if_true("drop")),
        f"{_VERL_ACTOR}ppo_mini_batch_size": "batch_size",
        f"{_VERL_ACTOR}ppo_epochs": "update_epochs",
        f"{_VERL_ACTOR}ppo_max_token_len_per_gpu": "tokens_per_microbatch",
        f"{_VERL_ACTOR}optim.lr": Mapped("lr", float),
        f"{_VERL_ACTOR}optim.weight_decay": "weight_decay",
        f"{_VERL_ACTOR}optim.lr_warmup_steps_ratio": "warmup_steps",
        "actor_rollout_ref.rollout.temperature": "temperature",
        "actor_rollout_ref.model.enable_gradient_checkpointing": "gradient_checkpointing",
        "actor_rollout_ref.model.lora_rank": "lora_rank",
        "actor_rollout_ref.model.lora_alpha": Mapped("lora_alpha", float),
        f"{_VERL_ACTOR}use_dynamic_bsz": "not needed: micro-batches are cut by tokens",
        f"{_VERL_ACTOR}ppo_micro_batch_size_per_gpu": "not needed: micro-batches are cut by tokens",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": "not needed: micro-batches are cut by tokens",
        "trainer.n_gpus_per_node": ONE_DEVICE,
        "trainer.nnodes": ONE_DEVICE,
    },
    find_stage=_verl_stage,
    derived=(_verl_data,),
    consumed=(
        "data.train_files",
        "algorithm.adv_estimator",
        "algorithm.norm_adv_by_std_in_grpo",
        "algorithm.use_kl_in_reward",
        "algorithm.kl_ctrl.kl_coef",
        "algorithm.kl_ctrl.type",
        f"{_VERL_ACTOR}use_kl_loss",
    ),
    stages={
        "grpo": StageRules(
            {
                "actor_rollout_ref.rollout.n": "samples_per_prompt",
                f"{_VERL_ACTOR}clip_ratio_low": "clip_low",
                f"{_VERL_ACTOR}clip_ratio_high": "clip_high",
                f"{_VERL_ACTOR}clip_ratio": Mapped("clip_low", float),
                f"{_VERL_ACTOR}kl_loss_coef": "kl_coef",
                f"{_VERL_ACTOR}kl_loss_type": Mapped(
                    "kl_estimator", one_of(**{"low_var_kl": "k3+", "k3+": "k3+", "mse": "k2", "k2": "k2"})
                ),
                f"{_VERL_ACTOR}loss_agg_mode": Mapped(
                    "loss_aggregation",
                    one_of(
                        **{
                            "token-mean": "token",
                            "seq-mean-token-mean": "sequence",
                            "seq-mean-token-sum-norm": "constant",
                        }
                    ),
                ),
            },
            {
                f"{_VERL_ACTOR}loss_agg_mode": "token-mean",
                f"{_VERL_ACTOR}ppo_epochs": 1,
                f"{_VERL_ACTOR}optim.weight_decay": 0.01,
            },
            (_verl_grpo,),
        ),
        "ppo": StageRules(
            {
                "algorithm.gamma": "gamma",
                "algorithm.lam": "gae_lambda",
                f"{_VERL_ACTOR}clip_ratio": "clip",
                f"{_VERL_ACTOR}entropy_coeff": "entropy_coef",
                "critic.optim.lr": Mapped("critic_lr", float),
                "critic.cliprange_value": "value_clip",
                "critic.model.path": "critic_model",
                "reward_model.model.path": Mapped("reward", lambda value: f"model:{value}"),
            },
            {
                "algorithm.lam": 1.0,
                "critic.cliprange_value": 0.5,
                f"{_VERL_ACTOR}ppo_epochs": 1,
                f"{_VERL_ACTOR}optim.weight_decay": 0.01,
            },
            (_verl_ppo,),
        ),
    },
)
