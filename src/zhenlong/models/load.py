"""Loading and saving models: Hugging Face format, safetensors only, atomic saves."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from zhenlong.errors import UserError
from zhenlong.kernels import malloc
from zhenlong.kernels import patching as kernel_patching
from zhenlong.models.encoders import is_encoder
from zhenlong.models.pretrained import from_pretrained, load_config
from zhenlong.models.resolve import resolve_model_path
from zhenlong.models.silence import silence_transformers

ModelKind = Literal["causal", "reward", "classifier"]
AUTO_MODELS: Final = {
    "causal": AutoModelForCausalLM,
    "reward": AutoModelForSequenceClassification,
    "classifier": AutoModelForSequenceClassification,
}


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021): W + alpha / rank * B A on the target layers."""

    rank: int
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str = "all-linear"  # or layer names separated by commas


@dataclass(frozen=True)
class ForwardSettings:
    """How layers run in training: recomputed in the backward pass to save memory, with the model's own dropout."""

    gradient_checkpointing: bool = False
    dropout: bool = True


def load_model(
    name: str,
    *,
    kind: ModelKind = "causal",
    lora: Lora | None = None,
    dtype: str = "float32",
    device: str = "auto",
    seed: int = 0,
    forward: ForwardSettings = ForwardSettings(),
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in eval mode and its tokenizer, from `pocket`, a folder, a run folder or a hub id.

    kind `reward` is a sequence classifier with one label. Loaded from a causal model, its score layer is new, sampled
    from `seed` with standard deviation 1/sqrt(d + 1) (Stiennon et al. 2020); an encoder's is initialised by
    transformers. kind `classifier` is a sequence classifier of any architecture with its trained labels. Raises
    `UserError` for what cannot be loaded.
    """
    source = resolve_model_path(name)
    tokenizer = from_pretrained(AutoTokenizer, source, name)
    config = load_config(name)
    label_settings: dict[str, Any] = {"num_labels": 1} if kind == "reward" else {}
    new_score_layer = kind == "reward" and not _is_reward_model(config)
    if kind == "reward" and not new_score_layer and config.num_labels != 1:
        raise UserError(f"model {name}: expected a reward model with one output, got {config.num_labels} labels")
    settings = {"dtype": getattr(torch, dtype), "use_safetensors": True, "output_loading_info": True, **label_settings}
    if kind == "reward" and config.is_encoder_decoder:
        raise UserError(f"model {name}: expected a decoder or an encoder for a reward model, got one with both parts")
    is_encoder_reward = kind == "reward" and is_encoder(config)
    with _seeded(seed) if is_encoder_reward and new_score_layer else nullcontext():
        model, info = from_pretrained(AUTO_MODELS[kind], source, name, **settings)
    allowed_missing = (
        _classification_head_weights(model, info["missing_keys"]) if is_encoder_reward else {"score.weight"}
    )
    _require_all_weights(model, info["missing_keys"], allowed_missing if new_score_layer else set(), name=name)
    if new_score_layer and not is_encoder_reward:
        generator = torch.Generator().manual_seed(seed)
        init_std = (model.score.in_features + 1) ** -0.5
        model.score.weight.data.copy_(torch.randn(model.score.weight.shape, generator=generator) * init_std)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        )
    if not forward.dropout:
        _disable_dropout(model)
    if forward.gradient_checkpointing:
        with silence_transformers():
            model.gradient_checkpointing_enable(
                {"use_reentrant": False, "context_fn": partial(_checkpoint_contexts, model)}
            )
    if lora is not None:
        model = _add_lora(model, lora, kind, seed=seed)
    model = model.to(resolve_device(device)).eval()
    kernel_patching.patch_model(model)
    malloc.keep_freed_memory()
    return model, tokenizer


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of `pocket`, a folder (with or without a model), a run folder or a hub id."""
    path = Path(name).expanduser()
    if not path.is_dir():
        return from_pretrained(AutoTokenizer, resolve_model_path(name), name)
    return from_pretrained(AutoTokenizer, str(path / "model" if (path / "model").is_dir() else path), name)


def resolve_device(device: str) -> torch.device:
    """The device to compute on; `auto` is the GPU if there is one. Raises `UserError` if it is not available."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: not available ({str(error).splitlines()[0]}); try cpu") from None


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a folder that transformers and vLLM can load, atomically.

    Adapters are merged into the weights of `folder` and also saved separately in `folder/adapter`.
    """
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder}: cannot write the model there ({error.strerror or error})") from None
    try:
        merged = model
        with silence_transformers():
            if isinstance(model, PeftModel):
                model.save_pretrained(temporary / "adapter")
                merged = copy.deepcopy(model).merge_and_unload()
            merged.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        for path in (
            temporary,
            *temporary.rglob("*"),
        ):  # temporary files are private; give the model normal permissions
            path.chmod(0o755 if path.is_dir() else 0o644)
        _replace_folder(temporary, folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot write the model there ({error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`, replacing it; if renaming fails, the old folder is restored."""
    old = temporary.with_name(temporary.name + "-old")
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(temporary, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> None:
    """Compile the model's layers with `torch.compile`, in place, on first use; all layers share one compilation.

    Parameter names and saved files do not change. Raises `UserError` for a model that does not declare its layer
    classes.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(f"compile: {type(model).__name__} has no layers that can be compiled one by one; leave it off")
    kernel_patching.unpatch_model(model)  # the compiler generates its own kernels
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)


def frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy without gradients, as a reference model. LoRA needs no copy; see `without_adapter`."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@contextmanager
def without_adapter(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Disable the LoRA adapter inside the context: the base model."""
    with model.disable_adapter():
        yield model


def _disable_dropout(model: PreTrainedModel) -> None:
    """Set to 0 the dropout layers, and the rates that attention and feed-forward layers store as numbers."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "activation_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _checkpoint_contexts(model: PreTrainedModel) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for a checkpointed layer's forward pass and its recomputation: both use the same attention.

    A caller may switch the model's attention for one forward pass only, while the backward pass runs later.
    """
    config = model.config.get_text_config()
    return nullcontext(), _use_attention(config, config._attn_implementation)


@contextmanager
def _use_attention(config: Any, name: str) -> Iterator[None]:
    previous = config._attn_implementation
    config._attn_implementation_internal = name
    try:
        yield
    finally:
        config._attn_implementation_internal = previous


def _is_reward_model(config: Any) -> bool:
    return any("SequenceClassification" in name for name in config.architectures or [])


def _require_all_weights(model: PreTrainedModel, missing: set[str], allowed_missing: set[str], *, name: str) -> None:
    """Raise `UserError` if the files lack a weight that the configuration requires: it would be random."""
    lacking = sorted((missing & {key for key, _ in model.named_parameters()}) - allowed_missing)
    if lacking:
        raise UserError(
            f"model {name}: its files lack {len(lacking)} weights that a {type(model).__name__} of its config.json "
            f"has, such as {lacking[0]}; expected all of them"
        )


def _classification_head_weights(model: PreTrainedModel, missing: set[str]) -> set[str]:
    """The missing weights that belong to an encoder's classification head: outside of the body, or its pooler."""
    return {key for key in missing if not key.startswith(f"{model.base_model_prefix}.") or ".pooler." in key}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global torch generator inside the context, and restore its state afterwards."""
    rng_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(rng_state)


def _add_lora(model: PreTrainedModel, lora: Lora, kind: ModelKind, *, seed: int) -> PreTrainedModel:
    targets = lora.targets if lora.targets == "all-linear" else [t.strip() for t in lora.targets.split(",")]
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type=TaskType.SEQ_CLS if kind == "reward" else TaskType.CAUSAL_LM,
    )
    try:
        with _seeded(seed):
            return get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(f"--lora_targets {lora.targets}: {error}") from None
