"""Conversations for encoders: the prompt and the response as a pair of texts, joined by the tokenizer."""

from __future__ import annotations

from typing import Any

from zhenlong.data.chat_templates import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.records import Messages


class PairTemplate(ChatTemplate):
    """`[CLS] prompt [SEP] response [SEP]`, or the tokenizer's own way to join two texts.

    A single-turn prompt is its text; for several turns, each is a line that starts with its role. Only rankings and
    rewards use this template: an encoder generates nothing, so there is no conversation to train on.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.source, self.name = tokenizer, "", "pair"
        self.saved_source = ""
        self.stop_ids = (int(tokenizer.sep_token_id),)
        pair = tokenizer("a", "b")
        if not pair.encodings:
            raise UserError("an encoder needs a fast tokenizer, with a tokenizer.json")
        sides = pair.sequence_ids(0)
        ids, first, second = pair["input_ids"], sides.index(0), sides.index(1)
        between = next(place for place in range(first, second) if sides[place] is None)
        end = next(place for place in range(second, len(ids) + 1) if place == len(ids) or sides[place] is None)
        self._prefix_ids, self._separator_ids, self._suffix_ids = ids[:first], ids[between:second], ids[end:]

    def encode_prompt(self, messages: Messages) -> list[int]:
        """The ids of the first text and the special tokens around it."""
        several = len(messages) > 1
        text = "\n".join(f"{one.role}: {one.content}" if several else one.content for one in messages)
        return [*self._prefix_ids, *self._text_ids(text), *self._separator_ids]

    def encode_response(self, messages: Messages, text: str, end_turn: bool = True) -> list[int]:
        """The ids of the second text and the special token at its end, omitted if it was truncated."""
        return [*self._text_ids(text), *(self._suffix_ids if end_turn else [])]

    def training_examples(self, messages: Messages) -> Any:
        """An encoder has no turns to train on: raises UserError."""
        raise UserError("an encoder generates no text; train a decoder on conversations")

    def _text_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def reward_model_template(tokenizer: Any, name: str = "auto") -> ChatTemplate:
    """`ChatTemplate.from_tokenizer`, or `PairTemplate` for an encoder's tokenizer without a template."""
    marks = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    if name == "auto" and not tokenizer.chat_template and None not in marks:
        return PairTemplate(tokenizer)
    return ChatTemplate.from_tokenizer(tokenizer, name)
