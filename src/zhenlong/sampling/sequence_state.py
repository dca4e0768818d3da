"""The state of a completion while it is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from zhenlong.sampling.detokenizer import IncrementalDetokenizer, detokenize
from zhenlong.sampling.sampling_params import Completion, SamplingParams
from zhenlong.sampling.token_sampling import philox_uniforms


@dataclass
class PromptState:
    """A prompt and the sequences that continue it."""

    index: int
    token_ids: list[int]
    sequences: list[SequenceState]
    slot: int = -1  # its slot in the prompt cache while `num_unfinished` sequences need it
    num_unfinished: int = 0


@dataclass
class SequenceState:
    """One completion of a prompt: its tokens so far and its own random numbers."""

    prompt: PromptState
    uniforms: np.ndarray  # [limit]
    stop_token_ids: frozenset[int]
    tokenizer: PreTrainedTokenizerBase
    detokenizer: IncrementalDetokenizer | None  # only if the text is needed during generation
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    start_column: int = -1  # the column of its first key
    finished: bool = False
    truncated: bool = False

    def append_token(self, token: int, log_prob: float) -> bool:
        """Append one token; true if it was the last one."""
        self.token_ids.append(token)
        self.log_probs.append(log_prob)
        if token in self.stop_token_ids or (self.detokenizer is not None and self.detokenizer.add_token(token)):
            self.finished = True
        elif len(self.token_ids) == len(self.uniforms):
            self.finished = self.truncated = True
        return self.finished

    def to_completion(self) -> Completion:
        """The completion."""
        response_ids = (
            self.token_ids[:-1] if self.token_ids and self.token_ids[-1] in self.stop_token_ids else self.token_ids
        )
        text = detokenize(self.tokenizer, response_ids) if self.detokenizer is None else self.detokenizer.finish()
        return Completion(tuple(self.token_ids), tuple(self.log_probs), text, truncated=self.truncated)


def build_prompt_states(
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    samples_per_prompt: int,
    *,
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    seeds: Sequence[int] | None = None,
    stream_text: bool = False,
) -> list[PromptState]:
    """Prompts with `samples_per_prompt` empty sequences each. A sequence's random numbers depend only on (seed,
    prompt index, sample index).

    A prompt with its own seed gets the numbers of the first prompt under that seed, at any position.
    """
    stop_ids = set(sampling.stop_token_ids)
    if not sampling.ignore_eos and tokenizer.eos_token_id is not None:
        stop_ids.add(int(tokenizer.eos_token_id))
    frozen_stop_ids = frozenset(stop_ids)
    result = []
    for index, ids in enumerate(prompts):
        seed, prompt_index = (sampling.seed, index) if seeds is None else (seeds[index], 0)
        prompt = PromptState(index, list(ids), [])
        limit = min(sampling.max_tokens, context_length - len(prompt.token_ids))
        for sample_index in range(samples_per_prompt):
            detokenizer = IncrementalDetokenizer(tokenizer, sampling.stop) if sampling.stop or stream_text else None
            uniforms = philox_uniforms(seed, prompt_index, sample_index, count=limit)
            prompt.sequences.append(
                SequenceState(prompt, uniforms, frozen_stop_ids, tokenizer=tokenizer, detokenizer=detokenizer)
            )
        result.append(prompt)
    return result
