"""One pass of any Hugging Face decoder over a forest, and the check that it computes what the plain model computes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.forest.attention import NAME, UnsupportedAttention
from zhenlong.forest.head import log_probs
from zhenlong.forest.planting import Forest, Node, plant, tree

Layout = Literal["forest", "padded"]
TOLERANCE: Final = 5e-5  # largest relative deviation in log-probability that is still rounding in fp32
_layouts: WeakKeyDictionary[PreTrainedModel, Layout] = WeakKeyDictionary()


def forward(model: PreTrainedModel, forest: Forest) -> torch.Tensor:
    """Last hidden states of every token, [N, d], ready for the output head.

    The first call with a model compares the forest with the plain forward pass on a few tokens. Where they differ the
    model is served by the padded layout from then on, and a warning says so.
    """
    return _run(model, forest, layout_of(model))


def layout_of(model: PreTrainedModel) -> Layout:
    """Which layout serves the model: `forest`, or `padded` where the forest does not compute it exactly."""
    if model not in _layouts:
        _layouts[model] = _choose_layout(model)
    return _layouts[model]


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The stack of layers beneath the output head, adapters included."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, inner.base_model_prefix, inner)


def _run(model: PreTrainedModel, forest: Forest, layout: Layout) -> torch.Tensor:
    if layout == "padded":
        return _padded_forward(model, forest)
    decoder = decoder_of(model)
    with _forest_attention(decoder):
        out = decoder(
            input_ids=forest.tokens[None], position_ids=forest.positions[None], use_cache=False, forest=forest
        )
    return out.last_hidden_state.squeeze(0)


@contextmanager
def _forest_attention(decoder: PreTrainedModel) -> Iterator[None]:
    """The decoder's attention replaced for one call, so that generation and plain calls keep their own."""
    config = decoder.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def _padded_forward(model: PreTrainedModel, forest: Forest) -> torch.Tensor:
    """The same hidden states from one padded row for each path from a root to a tip, by the model's own attention."""
    paths = paths_to_tips(forest)
    device = forest.tokens.device
    width = max(len(path) for path in paths)
    index = torch.zeros(len(paths), width, dtype=torch.long, device=device)
    mask = torch.zeros_like(index)
    place = torch.zeros(len(forest.tokens), dtype=torch.long, device=device)
    for row, path in enumerate(paths):
        index[row, : len(path)] = path
        mask[row, : len(path)] = 1
        place[path] = row * width + torch.arange(len(path), device=device)
    out = decoder_of(model)(input_ids=forest.tokens[index], attention_mask=mask, use_cache=False)
    return out.last_hidden_state.flatten(0, 1).index_select(0, place)


def paths_to_tips(forest: Forest) -> list[torch.Tensor]:
    """The flat indices from root to tip of every segment that nothing continues."""
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
            padded = _deviation(model, "padded")
            if not math.isfinite(padded):
                raise UserError(f"{type(model).__name__}: its own forward pass gives values that are not finite; "
                                "its weights are damaged or have diverged, choose an earlier model")  # fmt: skip
            if padded > TOLERANCE:
                kind = type(model).__name__
                raise UserError(f"{kind}: its output layer gives other log-probabilities than the model itself "
                                f"(off by {padded:.1e}); this architecture is not supported")  # fmt: skip
            try:
                deviation = _deviation(model, "forest")
                reason = f"the forest deviates by {deviation:.1e} from the plain forward pass"
            except (UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError) as error:
                deviation, reason = float("inf"), str(error).splitlines()[0]
    finally:
        model.train(training)
    if deviation <= TOLERANCE:
        return "forest"
    warnings.warn(f"{type(model).__name__}: using the padded layout, which is slower; {reason}", stacklevel=3)
    return "padded"


def _deviation(model: PreTrainedModel, layout: Layout) -> float:
    """Largest difference in log-probability (hidden state for models without an output head) to plain rows."""
    parameter = next(model.parameters())
    device = parameter.device
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    length = min(24 if window > 64 else 24 + window, getattr(config, "max_position_embeddings", 64) // 2)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (3 * length,), generator=generator).tolist()
    prompt, first, second = ids[:length], ids[length : 2 * length], ids[2 * length : 2 * length + 5]
    forest = plant([tree(prompt, [first, second]), Node(second, [False] + [True] * 4)], device)
    hidden = _run(model, forest, layout)
    if layout == "forest" and not forest.attended:
        raise UnsupportedAttention("its layers do not call the attention they are given")
    tolerance = 1.0 if parameter.dtype == torch.float32 else 1 / 400  # half precision rounds far more coarsely
    if not model.get_output_embeddings():
        plain = [decoder_of(model)(torch.tensor([row], device=device)).last_hidden_state[0, -1]
                 for row in (prompt + first, prompt + second, second)]  # fmt: skip
        ours = hidden[forest.leaf_last].float()
        truth = torch.stack(plain).float()
        return tolerance * float((ours - truth).abs().max() / truth.abs().max().clamp(min=1e-6))
    truth = torch.cat([_plain_log_probs(model, prompt, first, device), _plain_log_probs(model, prompt, second, device),
                       _plain_log_probs(model, second[:1], second[1:], device)])  # fmt: skip
    ours = log_probs(model, hidden, forest)
    return tolerance * float((ours - truth).abs().max() / truth.abs().max().clamp(min=1.0))


def _plain_log_probs(
    model: PreTrainedModel, before: list[int], scored: list[int], device: torch.device
) -> torch.Tensor:
    """Log-probabilities of `scored` after `before` by the model's own forward pass over one row."""
    logits = model(torch.tensor([before + scored], device=device)).logits[0].float()
    rows = logits[len(before) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(scored, device=device)[:, None]).squeeze(1)
