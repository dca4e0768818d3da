"""Selects a model's engine: the flat batch if it reproduces the plain forward pass, else transformers' own cache."""

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
from zhenlong.sampling.attention import SAMPLING_ATTENTION
from zhenlong.sampling.continuous_batch import ContinuousBatch, StepFunctions
from zhenlong.sampling.cuda_graphs import GraphReplay
from zhenlong.sampling.fused_llama import FusedLlama, can_fuse
from zhenlong.sampling.hf_cache_engine import HFCacheEngine
from zhenlong.sampling.kv_cache import BufferPool
from zhenlong.sampling.sampling_params import SamplingParams
from zhenlong.sampling.sequence_state import PromptState, build_prompt_states
from zhenlong.sampling.step_metadata import StepMetadata

FP32_TOLERANCE: Final = 1e-4  # largest relative deviation in log-probability that is attributed to fp32 rounding
HALF_TOLERANCE: Final = 0.1  # the same for bf16 and fp16 weights
PROBE_TOKENS: Final = 6  # number of tokens sampled in the comparison


class Engine(Protocol):
    """One run of sampling, step by step."""

    @property
    def finished(self) -> bool: ...

    def step(self) -> None: ...


class EngineFactory(Protocol):
    """Begins a run of sampling."""

    def __call__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[PromptState],
        sampling: SamplingParams,
        *,
        max_num_seqs: int,
        pool: BufferPool,
    ) -> Engine: ...


E = TypeVar("E", bound=Engine)
_selected: WeakKeyDictionary[PreTrainedModel, EngineFactory] = WeakKeyDictionary()


def flat_engine(
    model: PreTrainedModel,
    prompts: Sequence[PromptState],
    sampling: SamplingParams,
    *,
    max_num_seqs: int,
    pool: BufferPool,
) -> ContinuousBatch:
    """A `ContinuousBatch` with the model's own forward pass, whose attention is switched for the duration of a call."""

    def logits_fn(
        ids: torch.Tensor, positions: torch.Tensor, metadata: StepMetadata, *, logits_to_keep: torch.Tensor | None
    ) -> torch.Tensor:
        keep_kwargs: dict[str, Any] = {} if logits_to_keep is None else {"logits_to_keep": logits_to_keep}
        with _with_sampling_attention(model):
            out = model(
                input_ids=ids[None], position_ids=positions[None], use_cache=False, metadata=metadata, **keep_kwargs
            )
        return out.logits[0]

    functions = StepFunctions(logits_fn)
    return ContinuousBatch(model, prompts, sampling, max_num_seqs=max_num_seqs, pool=pool, functions=functions)


def fused_engine(
    model: PreTrainedModel,
    prompts: Sequence[PromptState],
    sampling: SamplingParams,
    *,
    max_num_seqs: int,
    pool: BufferPool,
) -> ContinuousBatch:
    """A `ContinuousBatch` with fused layers, if they support the model as it is now (adapters may be added later)."""
    if not can_fuse(model):
        return flat_engine(model, prompts, sampling, max_num_seqs=max_num_seqs, pool=pool)
    network = FusedLlama(model)
    functions = StepFunctions(network)
    if next(model.parameters()).is_cuda and network.has_static_rope:
        replay = GraphReplay(network)
        functions = StepFunctions(replay, replay.sample, graph_capture=True)
    return ContinuousBatch(model, prompts, sampling, max_num_seqs=max_num_seqs, pool=pool, functions=functions)


def select_engine(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EngineFactory:
    """The engine for the model, selected once by sampling a few tokens (in eval mode, without gradients)."""
    if model not in _selected:
        with torch.autocast(next(model.parameters()).device.type, enabled=False):
            _selected[model] = _compare_engines(model, tokenizer)
    return _selected[model]


@contextmanager
def _with_sampling_attention(model: PreTrainedModel) -> Iterator[None]:
    """Switch to the sampler's attention; plain generation and training keep the model's own."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation_internal = SAMPLING_ATTENTION
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def _compare_engines(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EngineFactory:
    reason = _why_not_flat(model, tokenizer)
    if reason is None:
        return fused_engine if _fused_agrees(model, tokenizer) else flat_engine
    model_class = type(model).__name__
    deviation = _run_probe(model, tokenizer, HFCacheEngine)[1]
    if deviation > _tolerance(model):
        raise UserError(
            f"{model_class}: log-probabilities from sampling with its own cache differ from its forward pass by "
            f"{deviation:.1e}; this architecture is not supported"
        )
    warnings.warn(f"{model_class}: sampling with transformers' own cache, which is slower; {reason}", stacklevel=4)
    return HFCacheEngine


def _fused_agrees(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the fused layers reproduce the model's log-probabilities; if not, its own forward pass is used."""
    return can_fuse(model) and _run_probe(model, tokenizer, fused_engine)[1] <= _tolerance(model)


def _why_not_flat(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why the flat batch does not support the model; None if it does."""
    config = model.config.get_text_config()
    if getattr(config, "attention_chunk_size", None):
        return "it uses chunked attention"
    if not hasattr(config, "num_hidden_layers"):
        return "its configuration has no number of layers"
    try:
        batch, deviation = _run_probe(model, tokenizer, flat_engine)
    except (UnsupportedAttention, TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    if _declares_sliding_window(config) and batch.metadata.sliding_windows <= {None}:
        return "its layers do not pass their sliding window to attention"
    return None if deviation <= _tolerance(model) else f"the flat batch deviates by {deviation:.1e} in log-probability"


def _run_probe(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, make_engine: Callable[..., E]
) -> tuple[E, float]:
    """Sample a few tokens after two prompts; returns the engine and its largest deviation in log-probability."""
    prompts = _probe_prompts(model.config.get_text_config())
    sampling = SamplingParams(max_tokens=PROBE_TOKENS, ignore_eos=True)
    prompt_states = build_prompt_states(prompts, sampling, 2, tokenizer=tokenizer, context_length=2**31)
    engine = make_engine(model, prompt_states, sampling, max_num_seqs=3, pool=BufferPool())
    while not engine.finished:
        engine.step()
    sequences = [sequence for prompt in prompt_states for sequence in prompt.sequences]
    return engine, max(
        _log_prob_deviation(model, sequence.prompt.token_ids, sequence.token_ids, log_probs=sequence.log_probs)
        for sequence in sequences
    )


def _tolerance(model: PreTrainedModel) -> float:
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    return HALF_TOLERANCE if half else FP32_TOLERANCE


def _probe_prompts(config: Any) -> list[list[int]]:
    """Two random prompts, the first longer than a short sliding window."""
    window = getattr(config, "sliding_window", None) or 0
    length = 12 if window > 64 else 12 + window
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (length + 5,), generator=generator).tolist()
    return [ids[:length], ids[length:]]


def _declares_sliding_window(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    sliding = kinds is None or any("sliding" in kind for kind in kinds)
    return bool(getattr(config, "sliding_window", None)) and sliding


def _log_prob_deviation(
    model: PreTrainedModel, prompt: list[int], response_ids: list[int], *, log_probs: list[float]
) -> float:
    """Largest difference from the log-probabilities of the model's own forward pass; relative where they exceed 1."""
    device = next(model.parameters()).device
    whole = torch.tensor([prompt + response_ids], device=device)
    out = model(whole, attention_mask=torch.ones_like(whole), use_cache=False)
    logits = out.logits[0, len(prompt) - 1 : -1]
    index = torch.tensor(response_ids, device=device)[:, None]
    plain = logits.float().log_softmax(-1).gather(1, index).squeeze(1).cpu()
    return float((torch.tensor(log_probs) - plain).abs().max() / plain.abs().max().clamp(min=1.0))
