"""Every stage and each of its ways of working, as the arguments of two quick steps."""

from typing import Any

from tiny_files import QUICK

from zhenlong.stages.dpo import dpo
from zhenlong.stages.grpo import grpo
from zhenlong.stages.ppo import ppo
from zhenlong.stages.pretrain import pretrain
from zhenlong.stages.reward_model import reward_model
from zhenlong.stages.sft import sft

STAGES = {"pretrain": pretrain, "sft": sft, "reward_model": reward_model, "dpo": dpo, "ppo": ppo, "grpo": grpo}
DATA = {"pretrain": "documents", "sft": "demonstrations", "reward_model": "rankings", "dpo": "pairs", "ppo": "tasks",
        "grpo": "tasks"}  # fmt: skip
ROLLING = {"rollouts": 8, "max_tokens": 8, "reward": "regex:[a-z]", "temperature": 1.0}
NEEDED: dict[str, dict[str, Any]] = {"ppo": {"passes": 1, **ROLLING}, "grpo": {"group_size": 4, **ROLLING}}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain": ("pretrain", {}),
    "sft": ("sft", {}),
    "reward_model": ("reward_model", {"margin": 0.5, "centre": 0.01}),
    "dpo": ("dpo", {}),
    "dpo-rankings": ("dpo", {"data": "rankings"}),
    "cdpo": ("dpo", {"label_smoothing": 0.1}),
    "robust": ("dpo", {"loss": "robust", "label_smoothing": 0.1}),
    "ipo": ("dpo", {"loss": "ipo"}),
    "hinge": ("dpo", {"loss": "hinge"}),
    "ppo": ("ppo", {}),
    "ppo-separate": ("ppo", {"critic": "separate", "critic_lr": 1e-3, "whiten_rewards": True}),
    "ppo-ptx": ("ppo", {"ptx_data": "demonstrations", "ptx_coef": 0.5, "entropy_coef": 0.01, "passes": 2}),
    "ppo-adaptive": ("ppo", {"kl_target": 0.1, "kl_horizon": 10.0, "truncation_penalty": 0.5, "value_clip": 0.0}),
    "grpo": ("grpo", {}),
    "grpo-k2": ("grpo", {"kl": "k2", "kl_coef": 0.1, "passes": 2}),
    "rloo": ("grpo", {"variant": "rloo"}),
    "dr_grpo": ("grpo", {"variant": "dr_grpo"}),
    "dapo": ("grpo", {"variant": "dapo", "resample": 2}),
    "gspo": ("grpo", {"variant": "gspo"}),
    "mask_truncated": ("grpo", {"mask_truncated": True, "scale": "batch", "max_tokens": 64}),
}


def run_case(name: str, files: dict[str, str], output: Any, **changes: Any) -> Any:
    """Run a case into `output`; data is named by kind."""
    stage, own = CASES[name]
    given = {"model": "model", "data": DATA[stage], **NEEDED.get(stage, {}), **QUICK, **own, **changes}
    given = {key: files.get(value, value) if isinstance(value, str) else value for key, value in given.items()}
    return STAGES[stage](output=str(output), **given)
