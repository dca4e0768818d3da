"""Configurations of TRL 1.16, whose scripts do not say in the file which trainer it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zhenlong.migration.rules import SCHEDULES, TRAINER_KEYS, Keys, LibraryRules, Mapped, StageRules, data_set, one_of


def _trl_common(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    if "dataset_name" in given:
        options["data"] = data_set(
            str(given["dataset_name"]), given.get("dataset_config"), given.get("dataset_train_split", "train")
        )
    if "use_peft" in given and not given["use_peft"]:
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"):
            options.pop(name, None)


def _trl_batch(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    device, steps = given["per_device_train_batch_size"], given["gradient_accumulation_steps"]
    options["batch_size"] = int(device) * int(steps)
    notes.append("batch_size is that of one process: multiply it by the number of processes that the file was run with")


def _trl_grpo_batch(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    _trl_batch(given, options, notes)
    responses, group = options["batch_size"], int(given["num_generations"])
    options["batch_size"] = max(1, responses // group)
    rollout_steps = given.get("steps_per_generation") or given["gradient_accumulation_steps"]
    rollouts = int(given["per_device_train_batch_size"]) * int(rollout_steps) // group
    options["rollout_prompts"] = max(options["batch_size"], rollouts)
    options.setdefault("clip_high", options.get("clip_low"))
    options["advantage_baseline"] = "mean"


_TRL_LOSSES: Final = one_of(
    sigmoid="sigmoid",
    sigmoid_norm="sigmoid_norm",
    ipo="ipo",
    hinge="hinge",
    robust="robust",
    apo_zero="apo_zero",
    apo_down="apo_down",
)
_AGGREGATION: Final = one_of(grpo="sequence", dapo="token", bnpo="token", dr_grpo="constant")
_SCALE: Final = one_of(group="group", batch="batch", none="none", true="group", false="none")
GRPO_KEYS: Final[Keys] = {
    "num_generations": "samples_per_prompt",
    "max_completion_length": "max_tokens",
    "temperature": "temperature",
    "beta": "kl_coef",
    "num_iterations": "update_epochs",
    "epsilon": "clip_low",
    "epsilon_high": "clip_high",
    "scale_rewards": Mapped("scale_rewards", _SCALE),
    "loss_type": Mapped("loss_aggregation", _AGGREGATION),
    "importance_sampling_level": "importance_sampling_level",
    "mask_truncated_completions": "mask_truncated",
}
_BATCH_KEYS: Final = ("per_device_train_batch_size", "gradient_accumulation_steps")
_TRL_BATCH: Final = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
_TRL_SCHEDULE: Final = {
    "lr_scheduler_type": "linear",
    "num_train_epochs": 3.0,
    "weight_decay": 0.0,
    "adam_beta2": 0.999,
}


def only_loss(value: Any) -> Any:
    """The only loss of a list."""
    (one,) = value if isinstance(value, list) else (value,)
    return _TRL_LOSSES(one)


TRL: Final = LibraryRules(
    keys={
        **TRAINER_KEYS,
        "model_name_or_path": "model",
        "output_dir": "output",
        "num_train_epochs": "epochs",
        "lr_scheduler_type": Mapped("schedule", SCHEDULES),
        "report_to": Mapped("tensorboard", lambda value: True if "tensorboard" in str(value) else None),
    },
    find_stage=lambda given: "",
    derived=(_trl_common,),
    consumed=(
        *_BATCH_KEYS,
        "dataset_name",
        "dataset_config",
        "dataset_train_split",
        "use_peft",
        "steps_per_generation",
    ),
    stages={
        "sft": StageRules(
            {
                "max_length": "max_length",
                "assistant_only_loss": "not needed: the loss is on assistant turns only",
                "completion_only_loss": "not needed: the loss is on assistant turns only",
                "dataset_text_field": "not needed: the row format is detected",
            },
            {**_TRL_BATCH, **_TRL_SCHEDULE, "learning_rate": 2e-5, "max_length": 1024},
            (_trl_batch,),
        ),
        "dpo": StageRules(
            {
                "beta": "beta",
                "loss_type": Mapped("loss", only_loss),
                "label_smoothing": "label_smoothing",
                "max_length": "max_length",
            },
            {**_TRL_BATCH, **_TRL_SCHEDULE, "learning_rate": 1e-6, "max_length": 1024},
            (_trl_batch,),
        ),
        "kto": StageRules(
            {
                "beta": "beta",
                "loss_type": Mapped("loss", one_of(kto="kto", apo_zero_unpaired="apo_zero")),
                "desirable_weight": "desirable_weight",
                "undesirable_weight": "undesirable_weight",
                "max_length": "max_length",
            },
            {**_TRL_BATCH, **_TRL_SCHEDULE, "learning_rate": 1e-6, "max_length": 1024},
            (_trl_batch,),
        ),
        "reward_model": StageRules(
            {"center_rewards_coefficient": "center_rewards", "max_length": "max_length"},
            {**_TRL_BATCH, **_TRL_SCHEDULE, "learning_rate": 1e-4, "max_length": 1024},
            (_trl_batch,),
        ),
        "grpo": StageRules(
            GRPO_KEYS,
            {
                **_TRL_BATCH,
                **_TRL_SCHEDULE,
                "learning_rate": 1e-6,
                "num_generations": 8,
                "max_completion_length": 512,
                "beta": 0.0,
                "epsilon": 0.2,
                "scale_rewards": "group",
                "loss_type": "dapo",
                "importance_sampling_level": "token",
            },
            (_trl_grpo_batch,),
        ),
    },
)
