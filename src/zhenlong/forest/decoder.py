"""Forward pass of any Hugging Face decoder over a forest, checked against the plain forward pass."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.forest.attention import FOREST_ATTENTION, UnsupportedAttention
from zhenlong.forest.attention_metadata import QuerySubset
from zhenlong.forest.last_layer import (
    MAX_QUERY_FRACTION,
    decoder_of,
    disable_sparse_last_layer,
    enable_sparse_last_layer,
    last_layer_of,
)
from zhenlong.forest.lm_head import log_probs
from zhenlong.forest.packing import Forest, OutputPositions, TreeNode, make_tree, pack_trees
from zhenlong.kernels.attention import AttentionSettings

Layout = Literal["forest", "padded"]
FOREST_TOLERANCE: Final = 5e-5  # largest relative deviation in log-probability that is attributed to fp32 rounding
_layout_of_model: WeakKeyDictionary[PreTrainedModel, Layout] = WeakKeyDictionary()
_sparse_models: WeakSet[PreTrainedModel] = WeakSet()  # models with a sparse last layer


def forward(
    model: PreTrainedModel, forest: Forest, output_positions: OutputPositions | None = "scored"
) -> torch.Tensor:
    """Last hidden states, ready for the output head: [M, d] at the positions that predict scored tokens.

    With `output_positions="response_ends"`, those of each response's last token, [R, d]; with None, those of every
    token, [N, d]. Where the architecture is supported, the last layer computes no others. The first call with a model
    compares the forest with the plain forward pass on a few tokens; if they differ, the model uses the padded layout
    from then on, with a warning.
    """
    return _forward_with_layout(model, forest, layout_of(model), output_positions=output_positions)


def layout_of(model: PreTrainedModel) -> Layout:
    """The model's layout: `forest`, or `padded` where the forest does not reproduce the plain forward pass."""
    if model not in _layout_of_model:
        _layout_of_model[model] = _choose_layout(model)
    return _layout_of_model[model]


def _forward_with_layout(
    model: PreTrainedModel,
    forest: Forest,
    layout: Layout,
    *,
    output_positions: OutputPositions | None,
    module_settings: dict[nn.Module, AttentionSettings] | None = None,
) -> torch.Tensor:
    forest.last_layer_tokens = len(forest.tokens)
    if layout == "padded":
        return _select_outputs(_padded_forward(model, forest), forest, output_positions)
    decoder = decoder_of(model)
    query_subset = _query_subset_for_last_layer(model, forest, output_positions)
    if query_subset is not None:
        forest.last_layer_tokens = len(query_subset.query_indices)
    with _use_forest_attention(decoder):
        ids, positions = forest.tokens[None], forest.positions[None]
        kwargs = {} if module_settings is None else {"module_settings": module_settings}
        out = decoder(
            input_ids=ids, position_ids=positions, use_cache=False, forest=forest, query_subset=query_subset, **kwargs
        )
    states = out.last_hidden_state.squeeze(0)
    if query_subset is None:
        return _select_outputs(states, forest, output_positions)
    return states if query_subset.inverse is None else states.index_select(0, query_subset.inverse)


def _query_subset_for_last_layer(
    model: PreTrainedModel, forest: Forest, output_positions: OutputPositions | None
) -> QuerySubset | None:
    """The queries that the last layer must compute; None for all."""
    if output_positions is None or model not in _sparse_models or not len(forest.output_indices[output_positions]):
        return None
    query_subset = forest.query_subset(output_positions)
    return query_subset if len(query_subset.query_indices) <= MAX_QUERY_FRACTION * len(forest.tokens) else None


def _select_outputs(states: torch.Tensor, forest: Forest, output_positions: OutputPositions | None) -> torch.Tensor:
    """The needed ones of states [N, d]."""
    if output_positions is None:
        return states
    return states.index_select(0, forest.source if output_positions == "scored" else forest.response_end)


@contextmanager
def _use_forest_attention(decoder: PreTrainedModel) -> Iterator[None]:
    """Switch the decoder to forest attention for one call; generation and plain calls keep the model's own."""
    config = decoder.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation_internal = FOREST_ATTENTION
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def _padded_forward(model: PreTrainedModel, forest: Forest) -> torch.Tensor:
    """The same hidden states from one padded row per root-to-leaf path, with the model's own attention."""
    paths = root_to_leaf_paths(forest)
    device = forest.tokens.device
    width = max(len(path) for path in paths)
    index = torch.zeros(len(paths), width, dtype=torch.long, device=device)
    mask = torch.zeros_like(index)
    padded_index = torch.zeros(len(forest.tokens), dtype=torch.long, device=device)
    for row, path in enumerate(paths):
        index[row, : len(path)] = path
        mask[row, : len(path)] = 1
        padded_index[path] = row * width + torch.arange(len(path), device=device)
    out = decoder_of(model)(input_ids=forest.tokens[index], attention_mask=mask, use_cache=False)
    return out.last_hidden_state.flatten(0, 1).index_select(0, padded_index)


def root_to_leaf_paths(forest: Forest) -> list[torch.Tensor]:
    """The packed indices from root to leaf, for every segment without children."""
    parents = {segment.parent for segment in forest.segments}
    paths: list[torch.Tensor] = []
    own = [torch.arange(s.start, s.start + s.length, device=forest.tokens.device) for s in forest.segments]
    for number, segment in enumerate(forest.segments):
        if number in parents:
            continue
        path, parent = [own[number]], segment.parent
        while parent >= 0:
            path.insert(0, own[parent])
            parent = forest.segments[parent].parent
        paths.append(torch.cat(path))
    return paths


def _choose_layout(model: PreTrainedModel) -> Layout:
    """Compare the forest with the model's own forward pass on a few fixed tokens, in eval mode."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(next(model.parameters()).device.type, enabled=False):
            padded = _relative_deviation(model, "padded")
            if not math.isfinite(padded):
                raise UserError(f"{type(model).__name__}: its forward pass gives non-finite values; its weights are "
                                "damaged or have diverged, choose an earlier model")  # fmt: skip
            if padded > FOREST_TOLERANCE:
                kind = type(model).__name__
                raise UserError(f"{kind}: log-probabilities from its output layer differ from the model's own "
                                f"(by {padded:.1e}); this architecture is not supported")  # fmt: skip
            module_settings: dict[nn.Module, AttentionSettings] = {}
            try:
                deviation = _relative_deviation(model, "forest", module_settings)
                reason = f"the forest deviates by {deviation:.1e} from the plain forward pass"
            except (UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError) as error:
                deviation, reason = float("inf"), str(error).splitlines()[0]
            if deviation <= FOREST_TOLERANCE:
                _try_sparse_last_layer(model, module_settings)
    finally:
        model.train(training)
    if deviation <= FOREST_TOLERANCE:
        return "forest"
    warnings.warn(f"{type(model).__name__}: using the padded layout, which is slower; {reason}", stacklevel=3)
    return "padded"


def _try_sparse_last_layer(model: PreTrainedModel, module_settings: dict[nn.Module, AttentionSettings]) -> None:
    """Enable the sparse last layer if it reproduces the plain forward pass."""
    layer: Any = last_layer_of(decoder_of(model))
    if layer is None or layer.self_attn not in module_settings:
        return
    enable_sparse_last_layer(layer, module_settings[layer.self_attn])
    _sparse_models.add(model)
    try:
        same = _relative_deviation(model, "forest") <= FOREST_TOLERANCE
    except (UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError, KeyError):
        same = False
    if not same:
        disable_sparse_last_layer(layer)
        _sparse_models.discard(model)


def _relative_deviation(
    model: PreTrainedModel, layout: Layout, module_settings: dict[nn.Module, AttentionSettings] | None = None
) -> float:
    """Largest difference in log-probability (or hidden state, without an output head) from the plain forward pass."""
    parameter = next(model.parameters())
    device = parameter.device
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    length = min(24 if window > 64 else 24 + window, getattr(config, "max_position_embeddings", 64) // 2)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (3 * length,), generator=generator).tolist()
    prompt, first, second = ids[:length], ids[length : 2 * length], ids[2 * length : 2 * length + 5]
    forest = pack_trees([make_tree(prompt, [first, second]), TreeNode(second, [False] + [True] * 4)], device)
    ends = not model.get_output_embeddings()
    outputs: OutputPositions = "response_ends" if ends else "scored"
    states = _forward_with_layout(model, forest, layout, output_positions=outputs, module_settings=module_settings)
    if layout == "forest" and not forest.attention_calls:
        raise UnsupportedAttention("its layers do not call the registered attention")
    tolerance = 1.0 if parameter.dtype == torch.float32 else 1 / 400  # half precision has far larger rounding errors
    if ends:
        plain = [decoder_of(model)(torch.tensor([row], device=device)).last_hidden_state[0, -1]
                 for row in (prompt + first, prompt + second, second)]  # fmt: skip
        expected = torch.stack(plain).float()
        return tolerance * float((states.float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    sequences = ((prompt, first), (prompt, second), (second[:1], second[1:]))
    expected = torch.cat([_plain_log_probs(model, start, rest) for start, rest in sequences])
    actual = log_probs(model, states, forest)
    return tolerance * float((actual - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def _plain_log_probs(model: PreTrainedModel, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Log-probabilities of `response` after `prompt` by the model's own forward pass."""
    device = next(model.parameters()).device
    logits = model(torch.tensor([prompt + response], device=device)).logits[0].float()
    rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(response, device=device)[:, None]).squeeze(1)
