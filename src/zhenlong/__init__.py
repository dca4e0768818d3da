"""Post-train a language model, and prove that it got better.

    import zhenlong

    zhenlong.sft(model="pocket", data="world:demonstrations?n=3000", output="runs/sft", lr=1e-3)

Every stage is a function with the options of its command; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from zhenlong.data import ChatTemplate as ChatTemplate
    from zhenlong.data import read as read
    from zhenlong.errors import UserError as UserError
    from zhenlong.models import load_model as load_model
    from zhenlong.models import save_model as save_model
    from zhenlong.report import write_report as write_report
    from zhenlong.rewards import build_reward_fn as build_reward_fn
    from zhenlong.sampling import SamplingParams as SamplingParams
    from zhenlong.sampling import TorchSampler as TorchSampler
    from zhenlong.stages.best_of_n import best_of_n as best_of_n
    from zhenlong.stages.classify import classify as classify
    from zhenlong.stages.derta import derta as derta
    from zhenlong.stages.dpo import dpo as dpo
    from zhenlong.stages.grpo import grpo as grpo
    from zhenlong.stages.kto import kto as kto
    from zhenlong.stages.ppo import ppo as ppo
    from zhenlong.stages.pretrain import pretrain as pretrain
    from zhenlong.stages.raft import raft as raft
    from zhenlong.stages.recipe import run as run
    from zhenlong.stages.reward_model import reward_model as reward_model
    from zhenlong.stages.self_reward import self_reward as self_reward
    from zhenlong.stages.sft import sft as sft
    from zhenlong.world import World as World
    from zhenlong.world import gold_reward as gold_reward

_EXPORTS: Final = {
    "zhenlong.data": ("ChatTemplate", "read"),
    "zhenlong.errors": ("UserError",),
    "zhenlong.models": ("load_model", "save_model"),
    "zhenlong.report": ("write_report",),
    "zhenlong.rewards": ("build_reward_fn",),
    "zhenlong.sampling": ("SamplingParams", "TorchSampler"),
    "zhenlong.stages.best_of_n": ("best_of_n",),
    "zhenlong.stages.classify": ("classify",),
    "zhenlong.stages.derta": ("derta",),
    "zhenlong.stages.dpo": ("dpo",),
    "zhenlong.stages.grpo": ("grpo",),
    "zhenlong.stages.kto": ("kto",),
    "zhenlong.stages.ppo": ("ppo",),
    "zhenlong.stages.pretrain": ("pretrain",),
    "zhenlong.stages.raft": ("raft",),
    "zhenlong.stages.recipe": ("run",),
    "zhenlong.stages.reward_model": ("reward_model",),
    "zhenlong.stages.self_reward": ("self_reward",),
    "zhenlong.stages.sft": ("sft",),
    "zhenlong.world": ("World", "gold_reward"),
}
_MODULE_OF: Final = {name: home for home, names in _EXPORTS.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'zhenlong' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
