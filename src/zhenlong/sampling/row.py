"""One completion while it is being generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from zhenlong.sampling.draw import uniform_numbers
from zhenlong.sampling.request import Completion, Sampling
from zhenlong.sampling.text import Reader, decode


@dataclass
class Prompt:
    """A prompt and the rows that continue it."""

    number: int
    ids: list[int]
    rows: list[Row]
    slot: int = -1  # where its keys and values are kept while `open` rows need them
    open: int = 0


@dataclass
class Row:
    """One completion of one prompt: what it has so far and its own random numbers."""

    prompt: Prompt
    uniforms: np.ndarray  # [limit]
    stop_ids: frozenset[int]
    tokenizer: PreTrainedTokenizerBase
    reader: Reader | None  # only where text has to be followed
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    entered: int = -1  # the column of its first own key
    done: bool = False
    truncated: bool = False

    def take(self, token: int, log_prob: float) -> bool:
        """Add one token; true when it was the last one."""
        self.ids.append(token)
        self.log_probs.append(log_prob)
        if token in self.stop_ids or (self.reader is not None and self.reader.feed(token)):
            self.done = True
        elif len(self.ids) == len(self.uniforms):
            self.done = self.truncated = True
        return self.done

    def completion(self) -> Completion:
        """What it has come to."""
        said = self.ids[:-1] if self.ids and self.ids[-1] in self.stop_ids else self.ids
        text = decode(self.tokenizer, said) if self.reader is None else self.reader.close()
        return Completion(tuple(self.ids), tuple(self.log_probs), text, self.truncated)


def prompts_with_rows(
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    n: int,
    seeds: Sequence[int] | None,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    follow_text: bool = False,
) -> list[Prompt]:
    """Prompts with `n` empty rows each. A row's random numbers depend on (seed, prompt's number, row's number) only.

    A prompt with a seed of its own has the numbers of the first prompt under that seed, wherever it stands.
    """
    stop_ids = set(sampling.stop_ids)
    if not sampling.ignore_eos and tokenizer.eos_token_id is not None:
        stop_ids.add(int(tokenizer.eos_token_id))
    stops = frozenset(stop_ids)
    result = []
    for number, ids in enumerate(prompts):
        seed, position = (sampling.seed, number) if seeds is None else (seeds[number], 0)
        prompt = Prompt(number, list(ids), [])
        limit = min(sampling.max_tokens, context - len(prompt.ids))
        for row in range(n):
            reader = Reader(tokenizer, sampling.stop) if sampling.stop or follow_text else None
            numbers = uniform_numbers(seed, position, row, limit)
            prompt.rows.append(Row(prompt, numbers, stops, tokenizer, reader))
        result.append(prompt)
    return result
