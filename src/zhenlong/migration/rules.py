"""How the keys of another library become options here, and the keys that TRL and axolotl share.

A rule is the option's name, a `Mapped` with a conversion of the value, or "not needed: why". A conversion that raises
`KeyError` or `ValueError` leaves the key without a counterpart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, NamedTuple

Derive = Callable[
    [Mapping[str, Any], dict[str, Any], list[str]], None
]  # (settings, options, notes): changes the last two


class Mapped(NamedTuple):
    """An option, and how its value is converted; None as the converted value leaves the option out."""

    option: str
    convert: Callable[[Any], Any]


Keys = Mapping[str, str | Mapped]


@dataclass(frozen=True)
class StageRules:
    """The keys of one stage, the other library's defaults that differ from ours, and options made of several keys."""

    keys: Keys = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    derived: tuple[Derive, ...] = ()


@dataclass(frozen=True)
class LibraryRules:
    """The keys of a library; `find_stage` says which stage a file is of; `consumed` are keys that `derived` reads."""

    keys: Keys
    stages: Mapping[str, StageRules]
    find_stage: Callable[[Mapping[str, Any]], str]
    derived: tuple[Derive, ...] = ()
    consumed: tuple[str, ...] = ()


def one_of(**names: Any) -> Callable[[Any], Any]:
    return lambda value: names[str(value).lower()]


def if_true(result: Any) -> Callable[[Any], Any]:
    return lambda value: result if value is True else None


def join_targets(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(value)


def whole_steps(value: Any) -> int:
    """A number of steps; raises `ValueError` for a fraction of all steps."""
    if value < 1:
        raise ValueError("a fraction")
    return int(value)


def data_set(path: str, config: Any = None, split: Any = None) -> str:
    """A local file as it is; anything else is a data set of the hub."""
    if PurePath(path).suffix in (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".gz") or path.startswith(
        ("/", ".", "~")
    ):
        return path
    return f"hf:{path}" + (f":{config}" if config else "") + (f"@{split}" if split else "")


SCHEDULES: Final = one_of(
    constant="constant", constant_with_warmup="constant", linear="linear", cosine="cosine", warmup_stable_decay="wsd"
)
PACKED: Final = "not needed: batches hold no padding"
ONE_DEVICE: Final = "not needed: one process"

TRAINER_KEYS: Final[Keys] = {  # transformers' TrainingArguments, which TRL and axolotl share
    "learning_rate": Mapped("lr", float),
    "weight_decay": "weight_decay",
    "adam_beta1": "beta1",
    "adam_beta2": "beta2",
    "adam_epsilon": Mapped("eps", float),
    "max_grad_norm": "max_grad_norm",
    "max_steps": Mapped("steps", lambda value: max(0, int(value))),
    "warmup_steps": "warmup_steps",
    "warmup_ratio": "warmup_steps",
    "seed": "seed",
    "logging_steps": "log_every",
    "save_steps": Mapped("save_every", whole_steps),
    "save_total_limit": "keep_checkpoints",
    "gradient_checkpointing": "gradient_checkpointing",
    "bf16": Mapped("dtype", one_of(true="bfloat16", false="float32", auto="auto")),
    "lora_alpha": Mapped("lora_alpha", float),
    "lora_dropout": "lora_dropout",
    "lora_r": "lora_rank",
    "lora_target_modules": Mapped("lora_targets", join_targets),
    "packing": PACKED,
    "padding_free": PACKED,
    "pad_to_multiple_of": PACKED,
    "group_by_length": "not needed: micro-batches are cut by tokens, trees of similar length together",
    "remove_unused_columns": "not needed: columns stay with their task",
    "dataloader_num_workers": "not needed: data are tokenised before training",
    "dataset_num_proc": "not needed: data are tokenised before training",
    "deepspeed": ONE_DEVICE,
    "fsdp": ONE_DEVICE,
    "ddp_timeout": ONE_DEVICE,
    "attn_implementation": "not needed: attention is chosen at start and checked against the plain forward pass",
    "precompute_ref_log_probs": "not needed: reference log-probabilities are always computed once and cached",
    "disable_dropout": "not needed: the model's own dropout is off",
    "trust_remote_code": "not needed: no code of a model folder is run",
}
