"""The in-process sampler: prompts computed once, keys and values kept in place, rows that come and go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Final

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zhenlong.errors import UserError
from zhenlong.loop.randomness import evaluating
from zhenlong.sampling.agreement import chosen_engine
from zhenlong.sampling.request import Completion, Sampling
from zhenlong.sampling.row import prompts_with_rows
from zhenlong.sampling.store import Memory

CPU_BYTES: Final = 2**31  # for the keys and values of the running rows
LEAST_ROWS: Final = 16
MOST_ROWS: Final = {"cpu": 256, "cuda": 1024}  # by kind of device; more gain little: the products are large enough


class TorchSampler:
    """Samples from a Hugging Face causal language model in this process, with the weights it has at each call.

    `max_rows` completions are generated at a time; more need more memory and are faster. Without it there are as many
    as keep their keys and values within 2 GiB, or a quarter of the memory of an accelerator, from 16 up to 256, on CUDA
    up to 1,024.
    `autocast` is the dtype of mixed precision; without it the model computes in its own dtype, on a CPU even where the
    caller has mixed precision on. When a model meets its
    first sampler, a few tokens are sampled and compared with the plain forward pass; where they differ, transformers'
    own cache is used from then on, and a warning says so.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_rows: int | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        if max_rows is not None and max_rows < 1:
            raise UserError(f"max_rows: expected at least 1, got {max_rows}")
        self.model, self.tokenizer, self.max_rows, self.autocast = model, tokenizer, max_rows, autocast
        config = model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", None) or 2**31)
        self.vocabulary = int(config.vocab_size)
        self._memory = Memory()
        with evaluating(model):
            self._engine = chosen_engine(model, tokenizer)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        n: int = 1,
        *,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """`n` completions of each prompt (token ids), in the prompts' order; `seeds` gives each prompt its own seed.

        What row j of prompt i draws depends on (`sampling.seed`, i, j) alone, not on the batch it ran in. The model's
        mode and the global random state are left as they were. Raises `UserError` for a prompt that is empty or leaves
        no room in the model's context.
        """
        self._check(prompts, n, seeds)
        if not prompts:
            return []
        asked = prompts_with_rows(prompts, sampling, n, seeds, self.tokenizer, self.context)
        most = self._rows(max(map(len, prompts)) / n + sampling.max_tokens)
        with evaluating(self.model), self._precision():
            batch = self._engine(self.model, asked, sampling, most, self._memory)
            while not batch.finished:
                batch.advance()
        return [[row.completion() for row in prompt.rows] for prompt in asked]

    def stream(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        """The text of one completion as it is generated, in pieces of whole characters.

        Joined, the pieces are the text that `sample` returns. No part of a stop string is ever shown.
        """
        self._check([prompt], 1, None)
        asked = prompts_with_rows([prompt], sampling, 1, None, self.tokenizer, self.context, follow_text=True)
        row = asked[0].rows[0]
        with evaluating(self.model), self._precision():
            batch = self._engine(self.model, asked, sampling, 1, self._memory)
        shown = ""
        while not batch.finished:
            with evaluating(self.model), self._precision():
                batch.advance()
            assert row.reader is not None
            text = row.completion().text if row.done else row.reader.shown()
            if len(text) > len(shown):
                yield text[len(shown) :]
                shown = text

    def _rows(self, tokens: float) -> int:
        """Completions at a time, each of up to that many `tokens` with its share of the prompt."""
        if self.max_rows is not None:
            return self.max_rows
        parameter = next(self.model.parameters())
        kind = parameter.device.type
        room = torch.cuda.get_device_properties(parameter.device).total_memory // 4 if kind == "cuda" else CPU_BYTES
        bytes_each = _numbers_of_a_token(self.model) * parameter.element_size() * min(tokens, self.context)
        return max(LEAST_ROWS, min(MOST_ROWS.get(kind, MOST_ROWS["cpu"]), int(room // max(1, bytes_each))))

    def _precision(self) -> torch.autocast | nullcontext[None]:
        kind = next(self.model.parameters()).device.type
        if self.autocast is not None:
            return torch.autocast(kind, dtype=self.autocast)
        # On a CPU reading keys and values takes a step's time, and the kernels for it are of fp32.
        return torch.autocast(kind, enabled=False) if kind == "cpu" else nullcontext()

    def _check(self, prompts: Sequence[Sequence[int]], n: int, seeds: Sequence[int] | None) -> None:
        if n < 1:
            raise UserError(f"n: expected at least 1 completion a prompt, got {n}")
        if seeds is not None and len(seeds) != len(prompts):
            raise UserError(f"seeds: expected {len(prompts)}, one for each prompt, got {len(seeds)}")
        for number, ids in enumerate(prompts):
            if not len(ids):
                raise UserError(f"prompt {number}: expected at least one token, got none; begin it with a BOS token")
            if len(ids) >= self.context:
                raise UserError(
                    f"prompt {number}: {len(ids)} tokens leave no room in the model's context of {self.context}; "
                    f"expected at most {self.context - 1}, shorten the prompt"
                )
            if min(ids) < 0 or max(ids) >= self.vocabulary:
                raise UserError(
                    f"prompt {number}: expected ids from 0 to {self.vocabulary - 1}, got {max(ids)}; "
                    "the tokenizer may belong to another model"
                )


def _numbers_of_a_token(model: PreTrainedModel) -> int:
    """Keys and values that one token leaves in all layers, as far as the configuration tells."""
    config = model.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", None) or 1)
    size = int(getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads)
    layers = int(getattr(config, "num_hidden_layers", None) or 1)
    return 2 * layers * size * int(getattr(config, "num_key_value_heads", None) or heads)
