"""Every stage and each of its ways of working, as the arguments of two quick steps."""

from typing import Any

from tiny_files import QUICK

from zhenlong.stages.derta import derta
from zhenlong.stages.dpo import dpo
from zhenlong.stages.grpo import grpo
from zhenlong.stages.kto import kto
from zhenlong.stages.ppo import ppo
from zhenlong.stages.pretrain import pretrain
from zhenlong.stages.raft import raft
from zhenlong.stages.reward_model import reward_model
from zhenlong.stages.sft import sft

STAGES = {"pretrain": pretrain, "sft": sft, "reward_model": reward_model, "dpo": dpo, "kto": kto, "ppo": ppo,
          "grpo": grpo, "raft": raft, "derta": derta}  # fmt: skip
DATA = {"pretrain": "documents", "sft": "demonstrations", "reward_model": "rankings", "dpo": "pairs", "kto": "ratings",
        "ppo": "tasks", "grpo": "tasks", "raft": "tasks", "derta": "safety"}  # fmt: skip
ROLLING = {"rollout_prompts": 8, "max_tokens": 8, "reward": "regex:[a-z]", "temperature": 1.0}
NEEDED: dict[str, dict[str, Any]] = {
    "ppo": {"update_epochs": 1, **ROLLING},
    "grpo": {"samples_per_prompt": 4, **ROLLING},
    "raft": {"samples_per_prompt": 4, "keep_truncated": True, **ROLLING},
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain": ("pretrain", {}),
    "sft": ("sft", {}),
    "reward_model": ("reward_model", {"margin": 0.5, "center_rewards": 0.01}),
    "dpo": ("dpo", {}),
    "dpo-rankings": ("dpo", {"data": "rankings"}),
    "cdpo": ("dpo", {"label_smoothing": 0.1}),
    "robust": ("dpo", {"loss": "robust", "label_smoothing": 0.1}),
    "ipo": ("dpo", {"loss": "ipo"}),
    "hinge": ("dpo", {"loss": "hinge"}),
    "sigmoid_norm": ("dpo", {"loss": "sigmoid_norm", "beta": 5.0}),
    "apo_zero": ("dpo", {"loss": "apo_zero"}),
    "apo_down": ("dpo", {"loss": "apo_down", "sft_weight": 0.5}),
    "sft_aggregation": ("dpo", {"sft_weight": 0.5, "sft_aggregation": "token", "data": "rankings"}),
    "simpo": ("dpo", {"loss": "simpo", "beta": 2.0, "gamma": 1.0}),
    "orpo": ("dpo", {"loss": "orpo", "data": "rankings"}),
    "kto": ("kto", {}),
    "kto-weights": ("kto", {"desirable_weight": 0.7, "undesirable_weight": 1.3, "data": "rankings"}),
    "kto-apo_zero": ("kto", {"loss": "apo_zero"}),
    "ppo": ("ppo", {}),
    "ppo-separate": ("ppo", {"critic": "separate", "critic_lr": 1e-3, "whiten_rewards": True}),
    "ppo-ptx": ("ppo", {"ptx_data": "demonstrations", "ptx_coef": 0.5, "entropy_coef": 0.01, "update_epochs": 2}),
    "ppo-adaptive": ("ppo", {"kl_target": 0.1, "kl_horizon": 10.0, "truncation_penalty": 0.5, "value_clip": 0.0}),
    "grpo": ("grpo", {}),
    "grpo-k2": ("grpo", {"kl_estimator": "k2", "kl_coef": 0.1, "update_epochs": 2}),
    "rloo": ("grpo", {"variant": "rloo"}),
    "dr_grpo": ("grpo", {"variant": "dr_grpo"}),
    "dapo": ("grpo", {"variant": "dapo", "dynamic_sampling_rounds": 2}),
    "gspo": ("grpo", {"variant": "gspo"}),
    "cispo": ("grpo", {"variant": "cispo", "update_epochs": 2}),
    "gmpo": ("grpo", {"variant": "gmpo", "update_epochs": 2}),
    "sapo": ("grpo", {"variant": "sapo", "update_epochs": 2}),
    "reinforce_pp": ("grpo", {"variant": "reinforce_pp"}),
    "reinforce_pp_baseline": ("grpo", {"variant": "reinforce_pp_baseline"}),
    "raft": ("raft", {}),
    "raft-correct": ("raft", {"selection": "correct", "update_epochs": 2}),
    "derta": ("derta", {"general_data": "demonstrations", "rto_fraction": 0.5}),
    "derta-prefix": ("derta", {"rto_weight": 0.0}),
    "mask_truncated": ("grpo", {"mask_truncated": True, "scale_rewards": "batch", "max_tokens": 64}),
}


def run_case(name: str, files: dict[str, str], output: Any, **changes: Any) -> Any:
    """Run a case into `output`; data is named by kind."""
    stage, own = CASES[name]
    given = {"model": "model", "data": DATA[stage], **NEEDED.get(stage, {}), **QUICK, **own, **changes}
    given = {key: files.get(value, value) if isinstance(value, str) else value for key, value in given.items()}
    return STAGES[stage](output=str(output), **given)
