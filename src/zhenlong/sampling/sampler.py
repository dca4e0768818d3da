"""The in-process sampler: prompts computed once, an in-place KV cache, continuous batching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Final, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.randomness import eval_mode
from zhenlong.sampling.engines import select_engine
from zhenlong.sampling.kv_cache import BufferPool
from zhenlong.sampling.sequence_state import Completion, build_prompt_states
from zhenlong.sampling.token_sampling import SamplingParams

CPU_CACHE_BYTES: Final = 2**31  # for the KV cache of the running sequences
MIN_NUM_SEQS: Final = 16
DEFAULT_MAX_NUM_SEQS: Final = {
    "cpu": 256,
    "cuda": 1024,
}  # by device type; more gain little, because the matmuls are large enough


class Sampler(Protocol):
    """Anything that completes prompts, given as token ids."""

    def sample(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, samples_per_prompt: int = 1
    ) -> list[list[Completion]]:
        """`samples_per_prompt` completions of each prompt, in the order of the prompts."""
        ...


class TorchSampler:
    """Samples from a Hugging Face causal language model in this process, with its weights at each call.

    `max_num_seqs` completions are generated at once; more need more memory and are faster. By default the KV cache may
    take 2 GiB on a CPU or a quarter of an accelerator's memory, for 16 to 256 sequences, on CUDA up to 1,024.
    `autocast` is a dtype for mixed precision; without it the model computes in its own dtype, on a CPU even inside the
    caller's autocast. A model's first sampler samples a few tokens and compares them with the plain forward pass; if
    they differ, transformers' own cache is used from then on, with a warning.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_num_seqs: int | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        if max_num_seqs is not None and max_num_seqs < 1:
            raise UserError(f"max_num_seqs: expected at least 1, got {max_num_seqs}")
        self.model, self.tokenizer, self.max_num_seqs, self.autocast = model, tokenizer, max_num_seqs, autocast
        config = model.config.get_text_config()
        self.context_length = int(getattr(config, "max_position_embeddings", None) or 2**31)
        self.vocab_size = int(config.vocab_size)
        self._pool = BufferPool()
        with eval_mode(model):
            self._make_engine = select_engine(model, tokenizer)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        samples_per_prompt: int = 1,
        *,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Sample `samples_per_prompt` completions of each prompt (token ids), in order of the prompts; `seeds` gives
        each prompt its own seed.

        The random numbers of sample j of prompt i depend only on (`sampling.seed`, i, j), not on the batch. The model's
        mode and the global random states are restored. Raises `UserError` for a prompt that is empty or leaves no room
        in the model's context.
        """
        self._validate(prompts, samples_per_prompt, seeds)
        if not prompts:
            return []
        prompt_states = build_prompt_states(
            prompts,
            sampling,
            samples_per_prompt,
            tokenizer=self.tokenizer,
            context_length=self.context_length,
            seeds=seeds,
        )
        max_num_seqs = self._num_seqs_that_fit(max(map(len, prompts)) / samples_per_prompt + sampling.max_tokens)
        with eval_mode(self.model), self._autocast_context():
            engine = self._make_engine(self.model, prompt_states, sampling, max_num_seqs=max_num_seqs, pool=self._pool)
            while not engine.finished:
                engine.step()
        return [[sequence.to_completion() for sequence in prompt.sequences] for prompt in prompt_states]

    def stream(self, prompt: Sequence[int], sampling: SamplingParams) -> Iterator[str]:
        """Yield the text of one completion as it is generated, in pieces of complete characters.

        The pieces joined are the text that `sample` returns. No part of a stop string is yielded.
        """
        self._validate([prompt], 1, None)
        prompt_states = build_prompt_states(
            [prompt],
            sampling,
            1,
            tokenizer=self.tokenizer,
            context_length=self.context_length,
            stream_text=True,
        )
        sequence = prompt_states[0].sequences[0]
        with eval_mode(self.model), self._autocast_context():
            engine = self._make_engine(self.model, prompt_states, sampling, max_num_seqs=1, pool=self._pool)
        shown = ""
        while not engine.finished:
            with eval_mode(self.model), self._autocast_context():
                engine.step()
            assert sequence.detokenizer is not None
            text = sequence.to_completion().text if sequence.finished else sequence.detokenizer.streamable_text()
            if len(text) > len(shown):
                yield text[len(shown) :]
                shown = text

    def _num_seqs_that_fit(self, tokens: float) -> int:
        """How many sequences to run at once, if each needs `tokens` tokens of KV cache, its prompt shared."""
        if self.max_num_seqs is not None:
            return self.max_num_seqs
        parameter = next(self.model.parameters())
        device_type = parameter.device.type
        cache_bytes = (
            torch.cuda.get_device_properties(parameter.device).total_memory // 4
            if device_type == "cuda"
            else CPU_CACHE_BYTES
        )
        bytes_per_sequence = (
            _kv_elements_per_token(self.model) * parameter.element_size() * min(tokens, self.context_length)
        )
        return max(
            MIN_NUM_SEQS,
            min(
                DEFAULT_MAX_NUM_SEQS.get(device_type, DEFAULT_MAX_NUM_SEQS["cpu"]),
                int(cache_bytes // max(1, bytes_per_sequence)),
            ),
        )

    def _autocast_context(self) -> torch.autocast | nullcontext[None]:
        device_type = next(self.model.parameters()).device.type
        if self.autocast is not None:
            return torch.autocast(device_type, dtype=self.autocast)
        # On a CPU a step is bound by reading the KV cache, and the kernels for that are fp32 only.
        return torch.autocast(device_type, enabled=False) if device_type == "cpu" else nullcontext()

    def _validate(self, prompts: Sequence[Sequence[int]], samples_per_prompt: int, seeds: Sequence[int] | None) -> None:
        if samples_per_prompt < 1:
            raise UserError(f"samples_per_prompt: expected at least 1 completion per prompt, got {samples_per_prompt}")
        if seeds is not None and len(seeds) != len(prompts):
            raise UserError(f"seeds: expected {len(prompts)}, one for each prompt, got {len(seeds)}")
        for number, ids in enumerate(prompts):
            if not len(ids):
                raise UserError(f"prompt {number}: expected at least one token, got none; begin it with a BOS token")
            if len(ids) >= self.context_length:
                raise UserError(
                    f"prompt {number}: {len(ids)} tokens leave no room in the model's context of "
                    f"{self.context_length}; expected at most {self.context_length - 1}, shorten the prompt"
                )
            if min(ids) < 0 or max(ids) >= self.vocab_size:
                raise UserError(
                    f"prompt {number}: expected ids from 0 to {self.vocab_size - 1}, got {max(ids)}; "
                    "the tokenizer may belong to another model"
                )


def _kv_elements_per_token(model: PreTrainedModel) -> int:
    """Elements in keys and values of one token over all layers, as far as the configuration tells."""
    config = model.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", None) or 1)
    size = int(getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads)
    layers = int(getattr(config, "num_hidden_layers", None) or 1)
    return 2 * layers * size * int(getattr(config, "num_key_value_heads", None) or heads)
