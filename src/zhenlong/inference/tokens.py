"""Text as the token ids that a local model reads, cut where lm-evaluation-harness cuts it: its numbers are ours.

Left out: encoder-decoder models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.inference.requests import RequestPrompt


@dataclass(frozen=True)
class ScoredSequence:
    """Token ids of which those from `start` on are to be found probable, each after all before it; `start` >= 1."""

    ids: tuple[int, ...]
    start: int


class RequestTokenizer:
    """A tokenizer and a chat template (`auto`, a built-in name, or `none`), and what they make of prompts."""

    def __init__(self, tokenizer: Any, chat_template: str = "auto") -> None:
        self.tokenizer, self.chat_template = tokenizer, chat_template
        self._lengths: dict[str, int] = {}

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The chat template; None where conversations are put as plain text."""
        return None if self.chat_template == "none" else ChatTemplate.from_tokenizer(self.tokenizer, self.chat_template)

    @cached_property
    def start_token_id(self) -> int:
        """The token before a text that has nothing before it: the start token, else the end-of-text token."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise UserError(
            "the tokenizer has neither a start nor an end-of-text token, so a text has no first probability"
        )

    @cached_property
    def adds_special_tokens(self) -> bool:
        """Whether the tokenizer puts special tokens before a text by itself."""
        return bool(self._tokenize([" a"])[0] != self._tokenize([" a"], False)[0])

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer of a conversation."""
        return self.template.stop_ids if self.template else ()

    def prompt_ids(self, prompt: RequestPrompt) -> list[int]:
        """The ids of a text with the tokenizer's own special tokens, or of a conversation in the chat template."""
        if isinstance(prompt, str):
            return self._tokenize_texts([prompt])[0] or [self.start_token_id]
        if self.template is not None:
            return self.template.encode_prompt(prompt)
        return self.prompt_ids("\n\n".join(message.content for message in prompt) + "\n\n")

    def count_tokens(self, prompt: RequestPrompt) -> int:
        """How many they are; those of texts are remembered, for examples stand in many prompts."""
        if not isinstance(prompt, str):
            return len(self.prompt_ids(prompt))
        if prompt not in self._lengths:
            if len(self._lengths) > 20_000:
                self._lengths.clear()
            self._lengths[prompt] = len(self.prompt_ids(prompt))
        return self._lengths[prompt]

    def continuation_sequences(self, context: RequestPrompt, continuations: Sequence[str]) -> list[ScoredSequence]:
        """Each continuation after the context.

        As `_encode_pair` of lm-evaluation-harness 0.4.13 has it: white space at the end of the context belongs to the
        continuation, both are encoded as one text, and the continuation is what exceeds the context's own length.
        """
        if not isinstance(context, str) and self.template is not None:
            ids = self.template.encode_prompt(context)
            return [ScoredSequence((*ids, *rest), len(ids)) for rest in self._tokenize(continuations, False)]
        text = context if isinstance(context, str) else "\n\n".join(message.content for message in context) + "\n\n"
        opening = text.rstrip()
        if not opening:
            rest = self._tokenize([text + one for one in continuations], False)
            return [
                ScoredSequence(tuple(ids), 1)
                if ids[:1] == [self.start_token_id]
                else ScoredSequence((self.start_token_id, *ids), 1)
                for ids in rest
            ]
        space = text[len(opening) :]
        before, *whole = self._tokenize_texts([opening, *(opening + space + one for one in continuations)])
        return [ScoredSequence(tuple(ids), len(before)) for ids in whole]

    def rolling_windows(self, text: str, window_length: int) -> list[ScoredSequence]:
        """A text in windows of at most `context` tokens, each token scored once, with as much before it as fits.

        The first window scores all of its tokens, after the first token of a text; later ones have at least one token
        before them (HELM, language_modeling_adapter.py; get_rolling_token_windows of lm-evaluation-harness).
        """
        ids = self._tokenize([text], False)[0]
        found = [ScoredSequence((self.start_token_id, *ids[:window_length]), 1)]
        done = window_length
        while done < len(ids):
            end = min(len(ids), done + window_length)
            begin = end - window_length - 1
            found.append(ScoredSequence(tuple(ids[begin:end]), done - begin))
            done = end
        return found if ids else []

    def _tokenize_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with the tokenizer's own special tokens, unless a text spells its start token already."""
        started = bool(texts[0]) and texts[0].startswith(self.tokenizer.decode([self.start_token_id]))
        return self._tokenize(texts, not started)

    def _tokenize(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        return ids
