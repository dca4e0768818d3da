"""Settings of TRL.

`tuned` is fastest at equal work: the benchmark's dtype, no gradient checkpointing, no logging, reference
log-probabilities computed before training, and the layout and micro-batch that were fastest of those tried on a CPU
(docs/performance.md). DEFAULT keeps TRL's defaults for everything that does not change the method: bf16, gradient
checkpointing, micro-batches of 8 rows, a reference recomputed at every step.

Left out, because they need other packages: padding-free batches and packing (FlashAttention), vLLM, Liger's and the
hub's kernels. TRL's own Triton kernels of the LM head are used on CUDA.
"""

from __future__ import annotations

from typing import Any, Final

FAST_SETTINGS: Final = {"gradient_checkpointing": False, "logging_strategy": "no"}
TUNED_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "sft": {"per_device_train_batch_size": 8},
    "dpo": {"per_device_train_batch_size": 8, "precompute_ref_log_probs": True},
    "reward_model": {"per_device_train_batch_size": 8},
    "kto": {
        "per_device_train_batch_size": 16,
        "precompute_ref_log_probs": True,
    },  # all rows of a step, which share one baseline
    "grpo": {"per_device_train_batch_size": 64, "loss_type": "grpo"},
}
CUDA_BATCH_SIZES: Final = {
    "sft": 16,
    "reward_model": 16,
    "grpo": 16,
}  # rows or pairs per micro-batch that fit 80 GB in bf16
DEFAULT_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "sft": {},
    "dpo": {},
    "reward_model": {},
    "kto": {},
    "grpo": {"loss_type": "grpo"},
}


def tuned_settings(stage: str, device: str, dtype: str) -> dict[str, Any]:
    """The fastest settings of a trainer."""
    settings = FAST_SETTINGS | TUNED_SETTINGS[stage] | {"bf16": dtype == "bfloat16"}
    if device == "cuda" and stage in CUDA_BATCH_SIZES:
        settings["per_device_train_batch_size"] = CUDA_BATCH_SIZES[stage]
    return settings
