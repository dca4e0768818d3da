"""Configurations of NeMo-RL, of its version of August 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zhenlong.migration.rules import ONE_DEVICE, LibraryRules, Mapped, StageRules, one_of


def _nemo_stage(given: Mapping[str, Any]) -> str:
    return next((name for name in ("grpo", "dpo", "sft") if any(key.startswith(f"{name}.") for key in given)), "")


def _nemo_grpo(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    responses, group = (
        given.get("policy.train_global_batch_size", 512),
        given.get("grpo.num_generations_per_prompt", 16),
    )
    options["batch_size"] = max(1, int(responses) // int(group))
    if not given.get("grpo.use_dynamic_sampling", False):
        options["dynamic_sampling_rounds"] = 0


NEMO_RL: Final = LibraryRules(
    keys={
        "policy.model_name": "model",
        "policy.optimizer.kwargs.lr": Mapped("lr", float),
        "policy.optimizer.kwargs.weight_decay": "weight_decay",
        "policy.max_grad_norm": "max_grad_norm",
        "policy.precision": Mapped("dtype", one_of(bfloat16="bfloat16", float32="float32")),
        "policy.dtensor_cfg.activation_checkpointing": "gradient_checkpointing",
        "checkpointing.checkpoint_dir": "output",
        "checkpointing.save_period": "save_every",
        "checkpointing.keep_top_k": "keep_checkpoints",
        "policy.train_micro_batch_size": "not needed: micro-batches are cut by tokens",
        "policy.logprob_batch_size": "not needed: micro-batches are cut by tokens",
        "cluster.gpus_per_node": ONE_DEVICE,
        "cluster.num_nodes": ONE_DEVICE,
    },
    find_stage=_nemo_stage,
    consumed=("policy.train_global_batch_size", "grpo.use_dynamic_sampling"),
    stages={
        "grpo": StageRules(
            {
                "grpo.num_prompts_per_step": "rollout_prompts",
                "grpo.num_generations_per_prompt": "samples_per_prompt",
                "grpo.max_num_epochs": "epochs",
                "grpo.seed": "seed",
                "grpo.normalize_rewards": Mapped("scale_rewards", one_of(true="group", false="none")),
                "grpo.use_leave_one_out_baseline": Mapped(
                    "advantage_baseline", one_of(true="leave_one_out", false="mean")
                ),
                "grpo.overlong_filtering": "mask_truncated",
                "grpo.dynamic_sampling_max_gen_batches": "dynamic_sampling_rounds",
                "loss_fn.reference_policy_kl_penalty": "kl_coef",
                "loss_fn.reference_policy_kl_type": Mapped("kl_estimator", one_of(k2="k2", k3="k3+")),
                "loss_fn.ratio_clip_min": "clip_low",
                "loss_fn.ratio_clip_max": "clip_high",
                "loss_fn.token_level_loss": Mapped("loss_aggregation", one_of(true="token", false="sequence")),
                "loss_fn.sequence_level_importance_ratios": Mapped(
                    "importance_sampling_level", one_of(true="sequence", false="token")
                ),
                "policy.generation.max_new_tokens": "max_tokens",
                "policy.generation.temperature": "temperature",
            },
            derived=(_nemo_grpo,),
        ),
        "dpo": StageRules(
            {
                "dpo.reference_policy_kl_penalty": "beta",
                "dpo.sft_loss_weight": "sft_weight",
                "dpo.max_num_epochs": "epochs",
                "dpo.max_num_steps": "steps",
                "dpo.seed": "seed",
                "policy.train_global_batch_size": "batch_size",
                "policy.max_total_sequence_length": "max_length",
            }
        ),
        "sft": StageRules(
            {
                "sft.max_num_epochs": "epochs",
                "sft.max_num_steps": "steps",
                "sft.seed": "seed",
                "policy.train_global_batch_size": "batch_size",
                "policy.max_total_sequence_length": "max_length",
            }
        ),
    },
)
