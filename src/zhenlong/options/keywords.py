"""The options that functions take as keywords, for type checkers.

Generated from the classes of options: change those, then run `python -m zhenlong.api.generate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class RowKwargs(TypedDict, total=False):
    skip_bad_rows: bool


class TemplateKwargs(TypedDict, total=False):
    chat_template: str
    chat_template_kwargs: str


class PromptKwargs(TypedDict, total=False):
    chat_template: str
    chat_template_kwargs: str
    skip_bad_rows: bool


class LengthKwargs(TypedDict, total=False):
    max_length: int
    overlong: Literal["error", "truncate", "drop"]


class DataKwargs(TypedDict, total=False):
    max_length: int
    overlong: Literal["error", "truncate", "drop"]
    chat_template: str
    chat_template_kwargs: str
    skip_bad_rows: bool


class ModelKwargs(TypedDict, total=False):
    dtype: Literal["auto", "float32", "bfloat16"]
    compile: bool
    device: str
    gradient_checkpointing: bool
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: str


class NewModelKwargs(TypedDict, total=False):
    tokenizer: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int


class LoadKwargs(TypedDict, total=False):
    device: str
    dtype: Literal["float32", "bfloat16", "float16"]


class TrainingKwargs(TypedDict, total=False):
    lr: float
    schedule: Literal["constant", "linear", "cosine", "wsd"]
    warmup_steps: float
    decay_fraction: float
    min_lr_ratio: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    max_grad_norm: float
    batch_size: int
    tokens_per_microbatch: int
    epochs: float
    steps: int
    seed: int
    log_every: int
    save_every: int
    sample_every: int
    evaluate_every: int
    evaluation_suite: str
    evaluation_limit: int
    stop_on_gate: str
    keep_checkpoints: int
    resume: bool
    tensorboard: bool
    wandb: str
    progress: bool


class RewardKwargs(TypedDict, total=False):
    judge_max_tokens: int
    toxicity_classifier: str


class ReferenceKwargs(TypedDict, total=False):
    reference: str
    reference_cache: str


class HeldoutKwargs(TypedDict, total=False):
    heldout_every: int
    keep_best: bool
    patience: int


class SamplingKwargs(TypedDict, total=False):
    max_tokens: int
    temperature: float
    overlong: Literal["error", "drop"]


class RolloutKwargs(TypedDict, total=False):
    max_tokens: int
    temperature: float
    overlong: Literal["error", "drop"]
    rollout_prompts: int
    update_epochs: int


class GroupRolloutKwargs(TypedDict, total=False):
    max_tokens: int
    temperature: float
    overlong: Literal["error", "drop"]
    rollout_prompts: int
    update_epochs: int
    samples_per_prompt: int


class InferenceKwargs(TypedDict, total=False):
    device: str
    dtype: Literal["float32", "bfloat16", "float16"]
    cache: str
    max_num_seqs: int


class EvaluationKwargs(TypedDict, total=False):
    device: str
    dtype: Literal["float32", "bfloat16", "float16"]
    cache: str
    max_num_seqs: int
    suite: str
    scenario: Sequence[str]
    limit: int | None
    shots: str | Sequence[int]
    trials: int
    seed: int
    perturbations: str
    judge: str
    judge_max_tokens: int | None
    toxicity_classifier: str
    data: Sequence[str] | Mapping[str, str]
    examples: Sequence[str] | Mapping[str, str]
    baseline_outputs: Sequence[str] | Mapping[str, str]
    reference_answers: Sequence[str] | Mapping[str, str]
    metric_option: Sequence[str] | Mapping[str, Any]
    attack_template: Sequence[str] | Mapping[str, str]
    sandbox: Literal["auto", "none"]
    chat_template: str
    chat_template_kwargs: str
    as_chat: bool
    max_tokens: int | None
    tokens_per_microbatch: int
    refresh: bool
    progress: bool


class LikelihoodKwargs(DataKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class SftKwargs(DataKwargs, HeldoutKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class DpoKwargs(DataKwargs, ReferenceKwargs, HeldoutKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class PreferenceKwargs(DataKwargs, ReferenceKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class PretrainKwargs(RowKwargs, NewModelKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class ClassifyKwargs(RowKwargs, LengthKwargs, NewModelKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class OnlineKwargs(PromptKwargs, RolloutKwargs, RewardKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class OnlineGroupKwargs(PromptKwargs, GroupRolloutKwargs, RewardKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class BestOfNKwargs(PromptKwargs, SamplingKwargs, RewardKwargs, ModelKwargs, TrainingKwargs, total=False):
    pass


class FeedbackKwargs(PromptKwargs, InferenceKwargs, total=False):
    pass


class SampleKwargs(TemplateKwargs, LoadKwargs, total=False):
    pass
