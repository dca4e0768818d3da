"""Text as the token ids that a local model reads, cut where lm-evaluation-harness cuts it: its numbers are ours.

Left out: encoder-decoder models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zhenlong.data import Template
from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.request import Prompt


@dataclass(frozen=True)
class Query:
    """Token ids of which those from `start` on are to be found probable, each after all before it; `start` >= 1."""

    ids: tuple[int, ...]
    start: int


class Tokens:
    """A tokenizer and a chat template (`auto`, a built-in name, or `none`), and what they make of prompts."""

    def __init__(self, tokenizer: Any, chat_template: str = "auto") -> None:
        self.tokenizer, self.chat_template = tokenizer, chat_template
        self._lengths: dict[str, int] = {}

    @cached_property
    def template(self) -> Template | None:
        """The chat template; None where conversations are put as plain text."""
        return None if self.chat_template == "none" else Template.of(self.tokenizer, self.chat_template)

    @cached_property
    def first(self) -> int:
        """The token before a text that has nothing before it: the start token, else the end-of-text token."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise UserError(
            "the tokenizer has neither a start nor an end-of-text token, so a text has no first probability"
        )

    @cached_property
    def adds_start(self) -> bool:
        """Whether the tokenizer puts special tokens before a text by itself."""
        return bool(self._ids([" a"])[0] != self._ids([" a"], False)[0])

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer of a conversation."""
        return self.template.stop_ids if self.template else ()

    def prompt(self, prompt: Prompt) -> list[int]:
        """The ids of a text with the tokenizer's own special tokens, or of a conversation in the chat template."""
        if isinstance(prompt, str):
            return self._texts([prompt])[0] or [self.first]
        if self.template is not None:
            return self.template.prompt(prompt)
        return self.prompt("\n\n".join(message.content for message in prompt) + "\n\n")

    def length(self, prompt: Prompt) -> int:
        """How many they are; those of texts are remembered, for examples stand in many prompts."""
        if not isinstance(prompt, str):
            return len(self.prompt(prompt))
        if prompt not in self._lengths:
            if len(self._lengths) > 20_000:
                self._lengths.clear()
            self._lengths[prompt] = len(self.prompt(prompt))
        return self._lengths[prompt]

    def queries(self, context: Prompt, continuations: Sequence[str]) -> list[Query]:
        """Each continuation after the context.

        As `_encode_pair` of lm-evaluation-harness 0.4.13 has it: white space at the end of the context belongs to the
        continuation, both are encoded as one text, and the continuation is what exceeds the context's own length.
        """
        if not isinstance(context, str) and self.template is not None:
            ids = self.template.prompt(context)
            return [Query((*ids, *rest), len(ids)) for rest in self._ids(continuations, False)]
        text = context if isinstance(context, str) else "\n\n".join(message.content for message in context) + "\n\n"
        opening = text.rstrip()
        if not opening:
            rest = self._ids([text + one for one in continuations], False)
            return [Query(tuple(ids), 1) if ids[:1] == [self.first] else Query((self.first, *ids), 1) for ids in rest]
        space = text[len(opening) :]
        before, *whole = self._texts([opening, *(opening + space + one for one in continuations)])
        return [Query(tuple(ids), len(before)) for ids in whole]

    def windows(self, text: str, context: int) -> list[Query]:
        """A text in windows of at most `context` tokens, each token scored once, with as much before it as fits.

        The first window scores all of its tokens, after the first token of a text; later ones have at least one token
        before them (HELM, language_modeling_adapter.py; get_rolling_token_windows of lm-evaluation-harness).
        """
        ids = self._ids([text], False)[0]
        found = [Query((self.first, *ids[:context]), 1)]
        done = context
        while done < len(ids):
            end = min(len(ids), done + context)
            begin = end - context - 1
            found.append(Query(tuple(ids[begin:end]), done - begin))
            done = end
        return found if ids else []

    def _texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with the tokenizer's own special tokens, unless a text spells its start token already."""
        started = bool(texts[0]) and texts[0].startswith(self.tokenizer.decode([self.first]))
        return self._ids(texts, not started)

    def _ids(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        return ids
