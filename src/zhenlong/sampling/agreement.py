"""Which engine serves a model: the flat batch where it computes what the plain forward pass computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.forest.attention import UnsupportedAttention
from zhenlong.sampling.attention import NAME
from zhenlong.sampling.batch import Batch
from zhenlong.sampling.fused import Fused, can_fuse
from zhenlong.sampling.replay import Replay
from zhenlong.sampling.request import Sampling
from zhenlong.sampling.row import Prompt, prompts_with_rows
from zhenlong.sampling.separate import SeparateBatches
from zhenlong.sampling.step import Step
from zhenlong.sampling.store import Memory

TOLERANCE: Final = 1e-4  # largest deviation in log-probability, relative to its size, that is still rounding in fp32
HALF_TOLERANCE: Final = 0.1  # the same for bf16 and fp16 weights
TOKENS: Final = 6  # sampled in the comparison


class Engine(Protocol):
    """One run of sampling, step by step."""

    @property
    def finished(self) -> bool: ...

    def advance(self) -> None: ...


E = TypeVar("E", bound=Engine)
MakeEngine = Callable[[PreTrainedModel, Sequence[Prompt], Sampling, int, Memory], Engine]
_chosen: WeakKeyDictionary[PreTrainedModel, MakeEngine] = WeakKeyDictionary()


def flat_batch(
    model: PreTrainedModel, prompts: Sequence[Prompt], sampling: Sampling, max_rows: int, memory: Memory
) -> Batch:
    """A `Batch` with the model's own forward pass, whose attention is switched for its length and no longer."""

    def network(ids: torch.Tensor, positions: torch.Tensor, step: Step, kept: torch.Tensor | None) -> torch.Tensor:
        keep: dict[str, Any] = {} if kept is None else {"logits_to_keep": kept}
        with _step_attention(model):
            out = model(input_ids=ids[None], position_ids=positions[None], use_cache=False, step=step, **keep)
        return out.logits[0]

    return Batch(model, prompts, sampling, max_rows, memory, network)


def fused_batch(
    model: PreTrainedModel, prompts: Sequence[Prompt], sampling: Sampling, max_rows: int, memory: Memory
) -> Batch:
    """A `Batch` that computes the layers itself, as long as they are what it can compute (adapters may come)."""
    if not can_fuse(model):
        return flat_batch(model, prompts, sampling, max_rows, memory)
    network = Fused(model)
    if not (next(model.parameters()).is_cuda and network.steady):
        return Batch(model, prompts, sampling, max_rows, memory, network)
    replay = Replay(network)
    return Batch(model, prompts, sampling, max_rows, memory, replay, recorded=True, drawing=replay.draw)


def chosen_engine(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> MakeEngine:
    """The engine for the model, found by sampling a few tokens with it once (in eval mode, without gradients)."""
    if model not in _chosen:
        with torch.autocast(next(model.parameters()).device.type, enabled=False):
            _chosen[model] = _choose(model, tokenizer)
    return _chosen[model]


@contextmanager
def _step_attention(model: PreTrainedModel) -> Iterator[None]:
    """Generation and training in between keep the attention they have."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def _choose(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> MakeEngine:
    reason = _refusal(model, tokenizer)
    if reason is None:
        return fused_batch if _fuses(model, tokenizer) else flat_batch
    kind = type(model).__name__
    deviation = _compared(model, tokenizer, SeparateBatches)[1]
    if deviation > _allowed(model):
        raise UserError(
            f"{kind}: sampling with its own cache gives other log-probabilities than its forward pass (off by "
            f"{deviation:.1e}); this architecture is not supported"
        )
    warnings.warn(f"{kind}: sampling with transformers' own cache, which is slower; {reason}", stacklevel=4)
    return SeparateBatches


def _fuses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the fused layers compute what the model computes; if not, its own forward pass serves as well."""
    return can_fuse(model) and _compared(model, tokenizer, fused_batch)[1] <= _allowed(model)


def _refusal(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why the flat batch cannot serve the model; None when it can."""
    config = model.config.get_text_config()
    if getattr(config, "attention_chunk_size", None):
        return "its attention works in chunks"
    if not hasattr(config, "num_hidden_layers"):
        return "it does not say how many layers it has"
    try:
        batch, deviation = _compared(model, tokenizer, flat_batch)
    except (UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    if _declared_window(config) and batch.step.windows <= {None}:
        return "its layers keep their sliding window to themselves"
    return None if deviation <= _allowed(model) else f"the flat batch is off by {deviation:.1e} in log-probability"


def _compared(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, make: Callable[..., E]) -> tuple[E, float]:
    """Sample a few tokens after two prompts: the engine, and its largest deviation in log-probability."""
    prompts = _probe(model.config.get_text_config())
    sampling = Sampling(max_tokens=TOKENS, ignore_eos=True)
    asked = prompts_with_rows(prompts, sampling, 2, None, tokenizer, 2**31)
    engine = make(model, asked, sampling, 3, Memory())
    while not engine.finished:
        engine.advance()
    rows = [row for prompt in asked for row in prompt.rows]
    return engine, max(_deviation(model, row.prompt.ids, row.ids, row.log_probs) for row in rows)


def _allowed(model: PreTrainedModel) -> float:
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    return HALF_TOLERANCE if half else TOLERANCE


def _probe(config: Any) -> list[list[int]]:
    """Two random prompts, the first one longer than a short sliding window."""
    window = getattr(config, "sliding_window", None) or 0
    length = 12 if window > 64 else 12 + window
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (length + 5,), generator=generator).tolist()
    return [ids[:length], ids[length:]]


def _declared_window(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    sliding = kinds is None or any("sliding" in kind for kind in kinds)
    return bool(getattr(config, "sliding_window", None)) and sliding


def _deviation(model: PreTrainedModel, prompt: list[int], ids: list[int], log_probs: list[float]) -> float:
    """Largest difference to the log-probabilities of the model's own forward pass, relative above 1."""
    device = next(model.parameters()).device
    whole = torch.tensor([prompt + ids], device=device)
    out = model(whole, attention_mask=torch.ones_like(whole), use_cache=False)
    logits = out.logits[0, len(prompt) - 1 : -1]
    index = torch.tensor(ids, device=device)[:, None]
    plain = logits.float().log_softmax(-1).gather(1, index).squeeze(1).cpu()
    return float((torch.tensor(log_probs) - plain).abs().max() / plain.abs().max().clamp(min=1.0))
