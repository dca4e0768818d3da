"""A completion while it is generated: its tokens, and its text, with complete characters and without stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from transformers import PreTrainedTokenizerBase

from zhenlong.sampling.token_sampling import SamplingParams, philox_uniforms

REPLACEMENT_CHARACTER: Final = "\ufffd"  # an incomplete character decodes to this


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt.

    `token_ids` are all generated ids, including the stop id; `log_probs` their log-probabilities under the distribution
    that was sampled from (for greedy decoding: at temperature 1). `text` omits special tokens and everything from a
    stop string on. `truncated` is true if it ended at `max_tokens` or at the end of the model's context.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    text: str
    truncated: bool


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


class IncrementalDetokenizer:
    """The text of a growing list of token ids.

    `text` grows by complete characters and ends before a stop string. Only the newest ids are decoded, together with
    the piece before them, because some tokenizers treat the first token of a text differently (the incremental
    decoding of text-generation-inference).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.stop = tuple(stop)
        self.text = ""
        self.stopped = False
        self._pending_ids: list[int] = []  # the previous piece and the ids not yet decoded
        self._prefix_length = 0  # how many of them are the previous piece
        self._longest_stop = max((len(string) for string in self.stop), default=1)

    def add_token(self, token: int) -> bool:
        """Add one id; true once the text contains a stop string."""
        if self.stopped:
            return True
        self._pending_ids.append(token)
        piece = self._new_text()
        if piece and not piece.endswith(REPLACEMENT_CHARACTER):
            self._append_text(piece)
            self._pending_ids, self._prefix_length = (
                self._pending_ids[self._prefix_length :],
                len(self._pending_ids) - self._prefix_length,
            )
        return self.stopped

    def finish(self) -> str:
        """The full text, including an incomplete character at its end; add no tokens afterwards."""
        if not self.stopped:
            self._append_text(self._new_text())
        return self.text

    def streamable_text(self) -> str:
        """The text that can be shown: without an end that could be the start of a stop string."""
        if self.stopped:
            return self.text
        for length in range(min(self._longest_stop - 1, len(self.text)), 0, -1):
            tail = self.text[-length:]
            if any(string.startswith(tail) for string in self.stop):
                return self.text[:-length]
        return self.text

    def _new_text(self) -> str:
        before = detokenize(self.tokenizer, self._pending_ids[: self._prefix_length])
        return detokenize(self.tokenizer, self._pending_ids)[len(before) :]

    def _append_text(self, piece: str) -> None:
        start = max(0, len(self.text) - self._longest_stop + 1)
        self.text += piece
        found = [place for string in self.stop if (place := self.text.find(string, start)) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True


def detokenize(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, without special tokens, spaces unchanged."""
    if not ids:
        return ""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
