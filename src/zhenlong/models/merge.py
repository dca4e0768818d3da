"""Merging models: one set of weights out of several that were fine-tuned from the same base, without training.

Post-training uses it against regressions: the mean of a checkpoint and its base keeps most of a gain and gives back
most of what was lost (Wortsman et al. 2022); a difference of weights can be scaled, added or subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.models.load import load_model, save_model
from zhenlong.models.pretrained import load_config

Method = Literal["linear", "slerp", "task_vectors"]
_PARALLEL: Final = 0.9995
"""Cosine above which the arc between two weights is a straight line in float32."""


def merge(
    *,
    model: Sequence[str],
    output: str,
    method: Method = "linear",
    weight: Sequence[float] = (),
    base: str = "",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> Path:
    """Merge models of one architecture and vocabulary into a new model.

    Args:
        model: A model: pocket, a model or run folder, or a hub id. Give it again for each model.
        output: Folder to make, in Hugging Face format. The tokenizer is the first model's.
        method: linear is the weighted mean; slerp the point on the arc between two models, for each tensor;
            task_vectors the base + the weighted sum of (model - base).
        weight: Weight of each model, in their order; give it again for each. Default: equal weights that sum to 1, or 1
            each for task_vectors. The weights of linear and slerp must sum to 1; those of task_vectors may be negative,
            which unlearns.
        base: The model that the others were fine-tuned from; for task_vectors.
        dtype: Precision of the saved weights. Sums are computed in float32.

    Memory: two models in float32, three for task_vectors.

    Returns the folder. Raises `UserError` for models that do not fit together.

    Sources: Wortsman et al. 2022, "Model soups" (arXiv:2203.05482), for linear; Shoemake 1985 for slerp; Ilharco et al.
    2023, "Editing models with task arithmetic" (arXiv:2212.04089), for task_vectors.
    """
    models = tuple(model)
    weights = _checked_weights(models, method, tuple(float(one) for one in weight), base)
    first, *others = (base, *models) if method == "task_vectors" else models
    merged, tokenizer = _load(first)
    origin = {name: tensor.clone() for name, tensor in _tensors(merged).items()} if method == "task_vectors" else {}
    if method == "linear":
        for tensor in _tensors(merged).values():
            tensor.mul_(weights[0])
    for name, share in zip(others, weights[-len(others) :], strict=True):
        other, other_tokenizer = _load(name)
        _require_same_tensors(merged, first, other, name)
        _require_same_vocabulary(tokenizer, first, other_tokenizer, name)
        _add(method, merged, _tensors(other), origin, share)
    save_model(merged.to(getattr(torch, dtype)), tokenizer, output)
    return Path(output)


def slerp(start: torch.Tensor, end: torch.Tensor, share: float) -> torch.Tensor:
    """The point at `share` (0 to 1) of the arc from one tensor to another, both seen as vectors of any length.

    With the angle w between them it is (sin((1 - share) w) start + sin(share w) end) / sin w; where they are nearly
    parallel, or one is zero, it is the straight line.
    """
    flat_start, flat_end = start.flatten().double(), end.flatten().double()
    lengths = flat_start.norm() * flat_end.norm()
    cosine = float(flat_start @ flat_end / lengths) if float(lengths) > 0 else 1.0
    if abs(cosine) > _PARALLEL:
        return torch.lerp(start, end, share)
    angle = math.acos(cosine)
    return (math.sin((1 - share) * angle) * start + math.sin(share * angle) * end) / math.sin(angle)


def _checked_weights(
    models: tuple[str, ...], method: Method, weights: tuple[float, ...], base: str
) -> tuple[float, ...]:
    if method not in ("linear", "slerp", "task_vectors"):
        raise UserError(f"method: expected linear, slerp or task_vectors, got {method!r}")
    least = 1 if method == "task_vectors" else 2
    if len(models) < least or (method == "slerp" and len(models) != 2):
        raise UserError(
            f"model: {method} merges {'two' if method == 'slerp' else f'{least} or more'} models, got {len(models)}; "
            "give --model again for each"
        )
    if bool(base) != (method == "task_vectors"):
        raise UserError(
            "base: task_vectors needs the model that the others were fine-tuned from"
            if method == "task_vectors"
            else f"base: {method} has no base; leave it out, or use method task_vectors"
        )
    if not weights:
        return (1.0 if method == "task_vectors" else 1 / len(models),) * len(models)
    if len(weights) != len(models) or not all(math.isfinite(one) for one in weights):
        raise UserError(f"weight: expected one finite number for each of {len(models)} models, got {len(weights)}")
    if method != "task_vectors" and (abs(sum(weights) - 1) > 1e-6 or (method == "slerp" and min(weights) < 0)):
        raise UserError(f"weight: the weights of {method} sum to 1, got {' + '.join(f'{one:g}' for one in weights)}")
    return weights


def _load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model with whatever head it was saved with, in float32 on the CPU, and its tokenizer."""
    config = load_config(name)
    heads = " ".join(config.architectures or [])
    kind: Literal["causal", "classifier"] = "classifier" if "SequenceClassification" in heads else "causal"
    return load_model(name, kind=kind, device="cpu")


def _tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Every weight once, by name: tied weights count as one."""
    return {name: parameter.data for name, parameter in model.named_parameters()}


def _add(
    method: Method,
    merged: PreTrainedModel,
    other: Mapping[str, torch.Tensor],
    origin: Mapping[str, torch.Tensor],
    share: float,
) -> None:
    """Merge one more model into `merged`, in place: its tensors `other`, and for task_vectors the base's, `origin`."""
    for name, tensor in _tensors(merged).items():
        if method == "linear":
            tensor.add_(other[name], alpha=share)
        elif method == "slerp":
            tensor.copy_(slerp(tensor, other[name], share))
        else:
            tensor.add_(other[name] - origin[name], alpha=share)


def _require_same_tensors(first: PreTrainedModel, first_name: str, other: PreTrainedModel, other_name: str) -> None:
    ours, theirs = _tensors(first), _tensors(other)
    for name in sorted(ours.keys() ^ theirs.keys()):
        raise UserError(f"model {other_name}: cannot be merged with {first_name}: only one of them has {name}")
    for name, tensor in ours.items():
        if tensor.shape != theirs[name].shape:
            raise UserError(
                f"model {other_name}: cannot be merged with {first_name}: {name} is {list(theirs[name].shape)}, "
                f"expected {list(tensor.shape)}"
            )


def _require_same_vocabulary(
    first: PreTrainedTokenizerBase, first_name: str, other: PreTrainedTokenizerBase, other_name: str
) -> None:
    if first.get_vocab() != other.get_vocab():
        raise UserError(f"model {other_name}: cannot be merged with {first_name}: their tokenizers differ")
