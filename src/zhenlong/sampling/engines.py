"""A model's engine: the flat batch if it reproduces the plain forward pass, else transformers' own cache."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.forest.attention import UnsupportedAttention
from zhenlong.sampling.attention import SAMPLING_ATTENTION
from zhenlong.sampling.continuous_batch import ContinuousBatch, StepFunctions
from zhenlong.sampling.cuda_graphs import GraphReplay
from zhenlong.sampling.fused_llama import FusedLlama, can_fuse
from zhenlong.sampling.kv_cache import BufferPool
from zhenlong.sampling.sequence_state import PromptState, SequenceState, build_prompt_states
from zhenlong.sampling.step_metadata import StepMetadata
from zhenlong.sampling.token_sampling import SamplingParams, sample_tokens

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


class HFCacheEngine:
    """Batches of up to `max_num_seqs` sequences with prompts of equal length, one batch after another."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[PromptState],
        sampling: SamplingParams,
        *,
        max_num_seqs: int,
        pool: BufferPool,
    ) -> None:
        self.model, self.sampling = model, sampling
        self.device = next(model.parameters()).device
        self.batches: deque[list[SequenceState]] = deque()
        for _, group in groupby(
            sorted(prompts, key=lambda prompt: len(prompt.token_ids)), lambda prompt: len(prompt.token_ids)
        ):
            sequences = [sequence for prompt in group for sequence in prompt.sequences]
            self.batches.extend(
                sequences[start : start + max_num_seqs] for start in range(0, len(sequences), max_num_seqs)
            )
        self.input_ids: torch.Tensor | None = None  # [R, length so far] of the first batch
        self.model_kwargs: dict[str, Any] = {}  # what the model needs in the next step: its cache

    @property
    def finished(self) -> bool:
        """Whether all sequences have finished."""
        return not self.batches

    def step(self) -> None:
        """One token for each sequence of the first batch; finished sequences are computed but ignored."""
        sequences, first = self.batches[0], self.input_ids is None
        if self.input_ids is None:
            self.input_ids = torch.tensor([sequence.prompt.token_ids for sequence in sequences], device=self.device)
            self.model_kwargs = {"attention_mask": torch.ones_like(self.input_ids), "use_cache": True}
        length = None if first else 1
        inputs = self.model.prepare_inputs_for_generation(
            self.input_ids, next_sequence_length=length, is_first_iteration=first, **self.model_kwargs
        )
        out = self.model(**inputs)
        self.model_kwargs = self.model._update_model_kwargs_for_generation(out, self.model_kwargs)
        uniforms = torch.tensor(
            [[0.0 if sequence.finished else sequence.uniforms[len(sequence.token_ids)]] for sequence in sequences],
            dtype=torch.float64,
        )
        sampled_ids, sampled_log_probs = sample_tokens(out.logits[:, -1], uniforms.to(self.device), self.sampling)
        self.input_ids = torch.cat((self.input_ids, sampled_ids), 1)
        for sequence, token, value in zip(
            sequences, sampled_ids[:, 0].tolist(), sampled_log_probs[:, 0].tolist(), strict=True
        ):
            if not np.isfinite(value):
                raise UserError("sampling: the model's logits are not finite; its weights may have diverged")
            if not sequence.finished:
                sequence.append_token(token, value)
        if all(sequence.finished for sequence in sequences):
            self.batches.popleft()
            self.input_ids, self.model_kwargs = None, {}


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
