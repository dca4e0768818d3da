"""A frozen reference's log-probabilities: computed once, kept on disk under a hash of model and data.

The key covers every weight of the reference and every token of every tree, so another model or other data never meets
a stale value; a reference that moves has no place here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.forest import TreeNode
from zhenlong.forest.scoring import log_prob_sums
from zhenlong.loop import FlopEstimator, Run, autocast
from zhenlong.models import frozen_copy, load_model, without_adapter
from zhenlong.models.model_argument import require_same_vocabulary


class ReferencePolicy:
    """The policy as it began, frozen: the base beneath its adapter, or a copy. Call it for the context of one use."""

    def __init__(self, policy: PreTrainedModel) -> None:
        self._policy = policy
        self._copy = None if isinstance(policy, PeftModel) else frozen_copy(policy)

    def __call__(self) -> AbstractContextManager[PreTrainedModel]:
        return without_adapter(self._policy) if self._copy is None else nullcontext(self._copy)


def cached_reference_log_probs(
    run: Run,
    reference: str | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trees: Sequence[TreeNode],
    cache_folder: Path,
) -> list[torch.Tensor]:
    """For each tree the summed log-probability [K] of each of its responses under the reference, in float32.

    `reference` is a model's name, or the policy itself before its first step (its base, where it has an adapter).
    """
    if isinstance(reference, str):
        model, reference_tokenizer = load_model(reference, device=run.model_options.device)
        require_same_vocabulary(tokenizer, reference_tokenizer, "reference")
    else:
        model = reference
    frozen = without_adapter(model) if isinstance(model, PeftModel) else nullcontext(model)
    with frozen as reference_model, autocast(run.dtype, run.device):
        path = cache_folder / f"{_fingerprint(reference_model, trees, str(run.dtype))}.safetensors"
        if not path.is_file():
            _save_log_probs(path, log_prob_sums(reference_model, trees, run.options.tokens_per_microbatch))
            cost = FlopEstimator.for_model(reference_model)
            run.ledger.count(flops=sum(cost.forward(node.num_tokens, node.num_scored) for node in trees))
    flat = load_file(path)["log_probs"]
    return list(flat.split([_num_responses(node) for node in trees]))


def _num_responses(node: TreeNode) -> int:
    return len(node.children)


def _save_log_probs(path: Path, sums: Sequence[np.ndarray]) -> None:
    """Write the values as one file that appears whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        save_file({"log_probs": torch.from_numpy(np.concatenate(sums)).float()}, part)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot keep reference log-probabilities there ({error})") from None


def _fingerprint(model: PreTrainedModel, trees: Sequence[TreeNode], precision: str) -> str:
    """SHA-256 over the precision, the weights that count and the tokens of the trees."""
    digest = hashlib.sha256(precision.encode())
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" not in name:
            digest.update(name.encode())
            digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    for ids in _node_tokens(trees):
        digest.update(np.asarray([len(ids), *ids], dtype=np.int64).tobytes())
    return digest.hexdigest()[:32]


def _node_tokens(trees: Sequence[TreeNode]) -> Iterator[Sequence[int]]:
    for node in trees:
        yield node.tokens
        yield from _node_tokens(node.children)
        yield ()
