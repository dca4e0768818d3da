"""One pass of any Hugging Face decoder over a forest, and the check that it computes what the plain model computes."""

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
from zhenlong.forest.attention import NAME, UnsupportedAttention
from zhenlong.forest.head import log_probs
from zhenlong.forest.last_layer import WORTH, decoder_of, last_layer_of, narrow, widen
from zhenlong.forest.planting import Forest, Node, Read, plant, tree
from zhenlong.forest.view import Reading

Layout = Literal["forest", "padded"]
TOLERANCE: Final = 5e-5  # largest relative deviation in log-probability that is still rounding in fp32
_layouts: WeakKeyDictionary[PreTrainedModel, Layout] = WeakKeyDictionary()
_narrow: WeakSet[PreTrainedModel] = WeakSet()  # models whose last layer computes only what is read


def forward(model: PreTrainedModel, forest: Forest, read: Read | None = "scored") -> torch.Tensor:
    """Last hidden states, ready for the output head: [M, d] of what predicts the scored tokens, as `log_probs` wants.

    With `read="ends"` those of each response's last token, [R, d]; with None those of every token, [N, d]. Where it is
    known how, the last layer computes no others. The first call with a model compares the forest with the plain
    forward pass on a few tokens. Where they differ the model is served by the padded layout from then on, and a warning
    says so.
    """
    return _run(model, forest, layout_of(model), read)


def layout_of(model: PreTrainedModel) -> Layout:
    """Which layout serves the model: `forest`, or `padded` where the forest does not compute it exactly."""
    if model not in _layouts:
        _layouts[model] = _choose_layout(model)
    return _layouts[model]


def _run(model: PreTrainedModel, forest: Forest, layout: Layout, read: Read | None, **others: Any) -> torch.Tensor:
    forest.read = len(forest.tokens)
    if layout == "padded":
        return _at(_padded_forward(model, forest), forest, read)
    decoder = decoder_of(model)
    reading = _worth_narrowing(model, forest, read)
    if reading is not None:
        forest.read = len(reading.rows)
    with _forest_attention(decoder):
        ids, positions = forest.tokens[None], forest.positions[None]
        out = decoder(input_ids=ids, position_ids=positions, use_cache=False, forest=forest, reading=reading, **others)
    states = out.last_hidden_state.squeeze(0)
    if reading is None:
        return _at(states, forest, read)
    return states if reading.back is None else states.index_select(0, reading.back)


def _worth_narrowing(model: PreTrainedModel, forest: Forest, read: Read | None) -> Reading | None:
    """What the last layer is to compute; None for everything."""
    if read is None or model not in _narrow or not len(forest.asked[read]):
        return None
    reading = forest.reading(read)
    return reading if len(reading.rows) <= WORTH * len(forest.tokens) else None


def _at(states: torch.Tensor, forest: Forest, read: Read | None) -> torch.Tensor:
    """Of states [N, d] those that are read."""
    if read is None:
        return states
    return states.index_select(0, forest.source if read == "scored" else forest.leaf_last)


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
            seen: dict[nn.Module, dict[str, Any]] = {}
            try:
                deviation = _deviation(model, "forest", seen=seen)
                reason = f"the forest deviates by {deviation:.1e} from the plain forward pass"
            except (UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError) as error:
                deviation, reason = float("inf"), str(error).splitlines()[0]
            if deviation <= TOLERANCE:
                _narrow_last_layer(model, seen)
    finally:
        model.train(training)
    if deviation <= TOLERANCE:
        return "forest"
    warnings.warn(f"{type(model).__name__}: using the padded layout, which is slower; {reason}", stacklevel=3)
    return "padded"


def _narrow_last_layer(model: PreTrainedModel, seen: dict[nn.Module, dict[str, Any]]) -> None:
    """Let the last layer compute only what is read, if that gives what the plain forward pass gives."""
    layer: Any = last_layer_of(decoder_of(model))
    if layer is None or layer.self_attn not in seen:
        return
    narrow(layer, seen[layer.self_attn])
    _narrow.add(model)
    try:
        same = _deviation(model, "forest") <= TOLERANCE
    except (UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError, KeyError):
        same = False
    if not same:
        widen(layer)
        _narrow.discard(model)


def _deviation(model: PreTrainedModel, layout: Layout, **others: Any) -> float:
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
    ends = not model.get_output_embeddings()
    states = _run(model, forest, layout, "ends" if ends else "scored", **others)
    if layout == "forest" and not forest.attended:
        raise UnsupportedAttention("its layers do not call the attention they are given")
    tolerance = 1.0 if parameter.dtype == torch.float32 else 1 / 400  # half precision rounds far more coarsely
    if ends:
        plain = [decoder_of(model)(torch.tensor([row], device=device)).last_hidden_state[0, -1]
                 for row in (prompt + first, prompt + second, second)]  # fmt: skip
        truth = torch.stack(plain).float()
        return tolerance * float((states.float() - truth).abs().max() / truth.abs().max().clamp(min=1e-6))
    truth = torch.cat([_plain_log_probs(model, prompt, first, device), _plain_log_probs(model, prompt, second, device),
                       _plain_log_probs(model, second[:1], second[1:], device)])  # fmt: skip
    ours = log_probs(model, states, forest)
    return tolerance * float((ours - truth).abs().max() / truth.abs().max().clamp(min=1.0))


def _plain_log_probs(
    model: PreTrainedModel, before: list[int], scored: list[int], device: torch.device
) -> torch.Tensor:
    """Log-probabilities of `scored` after `before` by the model's own forward pass over one row."""
    logits = model(torch.tensor([before + scored], device=device)).logits[0].float()
    rows = logits[len(before) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(scored, device=device)[:, None]).squeeze(1)
