"""Configurations of axolotl, of its version of July 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zhenlong.migration.rules import (
    ONE_DEVICE,
    PACKED,
    SCHEDULES,
    TRAINER_KEYS,
    LibraryRules,
    Mapped,
    StageRules,
    data_set,
    one_of,
)
from zhenlong.migration.trl import GRPO_KEYS, only_loss


def _axolotl_stage(given: Mapping[str, Any]) -> str:
    method = str(given.get("rl") or "sft").lower()
    if given.get("reward_model") is True:
        return "reward_model"
    return {"sft": "sft", "dpo": "dpo", "ipo": "dpo", "orpo": "dpo", "simpo": "dpo", "kto": "kto", "grpo": "grpo"}.get(
        method, method
    )


def _axolotl_common(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    sets = given.get("datasets")
    if isinstance(sets, list):
        rows = [one for one in sets if isinstance(one, Mapping) and "path" in one]
        options["data"] = ",".join(
            data_set(str(one["path"]), one.get("name"), one.get("split", "train")) for one in rows
        )
        if types := sorted({str(one["type"]) for one in rows if "type" in one}):
            notes.append(f"data: the row format is detected here; the file says {', '.join(types)}")
    options["batch_size"] = int(given.get("micro_batch_size", 1)) * int(given.get("gradient_accumulation_steps", 1))
    notes.append("batch_size is that of one process: multiply it by the number of processes that the file was run with")
    if given.get("lora_target_linear") is True:
        options["lora_targets"] = "all-linear"
    if not given.get("adapter"):
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"):
            options.pop(name, None)
    if given.get("adapter") == "qlora":
        notes.append("adapter: weights stay in their precision here; the adapter is the same")
    method = str(given.get("rl") or "").lower()
    if method in ("ipo", "orpo", "simpo"):
        options["loss"] = method


def _axolotl_grpo_batch(given: Mapping[str, Any], options: dict[str, Any], notes: list[str]) -> None:
    options["batch_size"] = max(1, options["batch_size"] // int(options.get("samples_per_prompt", 8)))
    options.setdefault("clip_high", options.get("clip_low"))
    options["advantage_baseline"] = "mean"


AXOLOTL: Final = LibraryRules(
    keys={
        **TRAINER_KEYS,
        "base_model": "model",
        "output_dir": "output",
        "num_epochs": "epochs",
        "lr_scheduler": Mapped("schedule", SCHEDULES),
        "cosine_min_lr_ratio": "min_lr_ratio",
        "sequence_len": "max_length",
        "excess_length_strategy": Mapped(
            "overlong", one_of(**{"drop": "drop", "truncate": "truncate", "raise": "error"})
        ),
        "wandb_project": "wandb",
        "use_tensorboard": "tensorboard",
        "torch_compile": Mapped("compile", lambda value: value is True),
        "chat_template": Mapped(
            "chat_template", one_of(chatml="chatml", llama3="llama3", alpaca="alpaca", tokenizer_default="auto")
        ),
        "train_on_inputs": Mapped("", one_of(false=None)),
        "sample_packing": PACKED,
        "eval_sample_packing": PACKED,
        "pad_to_sequence_len": PACKED,
        "flash_attention": "not needed: attention is chosen at start",
        "xformers_attention": "not needed: attention is chosen at start",
        "sdp_attention": "not needed: attention is chosen at start",
        "tokenizer_type": "not needed: read from the model's folder",
        "model_type": "not needed: read from the model's folder",
        "dataset_prepared_path": "not needed: data are tokenised at every start",
        "strict": "not needed: unknown options are always refused",
        "local_rank": ONE_DEVICE,
    },
    find_stage=_axolotl_stage,
    derived=(_axolotl_common,),
    consumed=(
        "rl",
        "datasets",
        "micro_batch_size",
        "gradient_accumulation_steps",
        "adapter",
        "lora_target_linear",
        "reward_model",
    ),
    stages={
        "sft": StageRules(defaults={"learning_rate": 2e-5, "lr_scheduler": "cosine"}),
        "dpo": StageRules(
            {
                "rl_beta": "beta",
                "dpo_beta": "beta",
                "orpo_alpha": "beta",
                "simpo_gamma": "gamma",
                "dpo_label_smoothing": "label_smoothing",
                "dpo_loss_type": Mapped("loss", only_loss),
            }
        ),
        "kto": StageRules(
            {
                "rl_beta": "beta",
                "kto_desirable_weight": "desirable_weight",
                "kto_undesirable_weight": "undesirable_weight",
            }
        ),
        "reward_model": StageRules({"center_rewards_coefficient": "center_rewards"}),
        "grpo": StageRules(
            {f"trl.{name}": rule for name, rule in GRPO_KEYS.items()},
            {
                "trl.num_generations": 8,
                "trl.beta": 0.0,
                "trl.epsilon": 0.2,
                "trl.loss_type": "dapo",
                "trl.scale_rewards": "group",
            },
            (_axolotl_grpo_batch,),
        ),
    },
)
