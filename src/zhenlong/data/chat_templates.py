"""Chat templates: a conversation as token ids with its loss mask.

A template is Jinja source: the tokenizer's own or a built-in one. A conversation is rendered turn by turn and tokenised
in pieces, split where the assistant's text starts and ends, exactly as in generation. So the ids of a prompt followed
by those of a response are the ids of the conversation, and the ids of earlier turns never change.

The end of a turn is the first added token that the template writes after the assistant's text. A template without one
would never stop, so EOS is appended. In both cases generation stops at `stop_ids`, which training has taught. Rendered
text already contains its BOS, so none is added.

A message whose text spells a special token becomes that token, as the tokenizer decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError

from zhenlong.data.builtin_templates import BUILTIN_TEMPLATES, builtin_template
from zhenlong.data.message_parsing import message_text
from zhenlong.errors import UserError
from zhenlong.guarded_call import TimeLimitExceeded, describe_error, time_limit
from zhenlong.records import Message, Messages

TokenizedExample = tuple[list[int], list[bool]]  # token ids and loss mask, of the same length

_PROBE: Final = "zhenlong"
TEMPLATE_ERRORS: Final = (
    TemplateError, TypeError, KeyError, ValueError, AttributeError, ArithmeticError, RecursionError
)  # fmt: skip
RENDER_SECONDS: Final = 5.0  # of the processor, for one conversation: templates of others may loop


@dataclass(frozen=True)
class _AssistantTurn:
    """One assistant turn in rendered text: the text before it, and its own text including the end of the turn."""

    prefix: str
    text: str


class ChatTemplate:
    """A tokenizer with a chat template. Create one with `ChatTemplate.from_tokenizer`.

    `source` is the Jinja source. Set it as `tokenizer.chat_template` before saving the tokenizer, so that other
    programs format conversations as in training.
    """

    def __init__(self, tokenizer: Any, source: str, name: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.source = source
        self.name = name
        self._supports_tool_calls = "tool_calls" in source
        self._supports_tools = re.search(r"\btools\b", source) is not None
        self._adds_space_prefix = _tokenizer_adds_space(tokenizer)
        probe = self._assistant_turn((Message("user", _PROBE),), Message("assistant", _PROBE))
        if _PROBE not in probe.text:
            raise UserError(f"the chat template {name} does not include the assistant's text; choose another one")
        self._turn_suffix = probe.text[probe.text.rindex(_PROBE) + len(_PROBE) :]
        marker = _first_token(self._turn_suffix, tokenizer.get_added_vocab())
        self._end_of_turn = self._turn_suffix[: self._turn_suffix.index(marker) + len(marker)] if marker else ""
        eos = tokenizer.eos_token_id
        if not marker and eos is None:
            raise UserError(
                f"the chat template {name} ends a response with no token, and the tokenizer has no eos token"
            )
        ends = (tokenizer.convert_tokens_to_ids(marker) if marker else eos, eos)
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(end for end in ends if end is not None))

    @staticmethod
    def from_tokenizer(tokenizer: Any, name: str = "auto") -> ChatTemplate:
        """The tokenizer's own template (`auto`) or the built-in `chatml`, `llama2`, `llama3` or `alpaca`.

        Raises `UserError` for `auto` and a tokenizer without a template, and for an unknown name.
        """
        if name in BUILTIN_TEMPLATES:
            return ChatTemplate(tokenizer, builtin_template(tokenizer, name), name)
        if name != "auto":
            raise UserError(f"--chat_template {name}: unknown; expected auto, {', '.join(BUILTIN_TEMPLATES)}")
        if not tokenizer.chat_template:
            choices = "|".join(BUILTIN_TEMPLATES)
            raise UserError(f"the tokenizer has no chat template; choose one with --chat_template {choices}")
        return ChatTemplate(tokenizer, tokenizer.get_chat_template())

    def encode_prompt(self, messages: Messages) -> list[int]:
        """The ids of a prompt, including the generation prompt."""
        text = self.render(messages, add_generation_prompt=True)
        return self._encode_pieces(self._split_at_turns(text, self._assistant_turns(messages)))[0]

    def encode_response(self, messages: Messages, text: str, end_turn: bool = True) -> list[int]:
        """The ids of `text` as the response to `messages`, including the end of the turn.

        `end_turn=False` omits the end of the turn, as for a truncated response.
        """
        turn = self._assistant_turn(messages, Message("assistant", text))
        turn_text = turn.text
        if end_turn:
            return self._encode_turn_text(self._through_end_of_turn(turn_text), first=not turn.prefix)
        turn_text = (
            turn_text[: len(turn_text) - len(self._turn_suffix)] if turn_text.endswith(self._turn_suffix) else turn_text
        )
        return self._tokenize(turn_text, first=not turn.prefix)

    def encode_conversation(self, messages: Messages) -> TokenizedExample:
        """The ids of a conversation up to the end of the assistant's last turn, and the loss mask.

        Raises `UserError` when there is no assistant turn, and for a template that rewrites earlier turns (such as one
        that strips `<think>`): then no single sequence contains all turns, and `training_examples` returns several.
        """
        examples = self.training_examples(messages)
        if len(examples) > 1:
            raise UserError(
                f"the chat template {self.name} rewrites earlier turns, so this conversation is {len(examples)} "
                "training examples; train on each of them, or choose --chat_template chatml"
            )
        return examples[0]

    def training_examples(self, messages: Messages) -> list[TokenizedExample]:
        """The conversation as few sequences, in which each assistant turn is scored exactly once.

        One sequence for most templates. A turn that the template rewrites later gets its own sequence, which ends with
        it; in later sequences it is context, as the model will see it.
        """
        turns = self._assistant_turns(messages)
        if not turns:
            raise UserError("a conversation without an assistant turn has nothing to train on; remove it")
        examples: list[TokenizedExample] = []
        unscored_turns = set(range(len(turns)))
        while unscored_turns:
            last = max(unscored_turns)
            pieces = self._split_at_turns(turns[last].prefix, turns[:last])
            pieces.append((turns[last].text, last))
            examples.append(self._encode_pieces(pieces, unscored_turns))
            unscored_turns -= {turn for _, turn in pieces if turn is not None}
        return examples[::-1]

    def _assistant_turns(self, messages: Messages) -> list[_AssistantTurn]:
        positions = [i for i, message in enumerate(messages) if message.role == "assistant"]
        turns = [self._assistant_turn(messages[:i], messages[i]) for i in positions]
        return [_AssistantTurn(turn.prefix, self._through_end_of_turn(turn.text)) for turn in turns]

    def _assistant_turn(self, history: Messages, message: Message) -> _AssistantTurn:
        if not history:
            raise UserError(
                "the conversation starts with the assistant; expected the system's or the user's turn first"
            )
        prefix = self.render(history, add_generation_prompt=True)
        whole = self.render((*history, message), add_generation_prompt=False)
        if not whole.startswith(prefix):
            raise UserError(
                f"the chat template {self.name} writes a response differently from its generation prompt "
                f"({prefix[-30:]!r}); choose --chat_template chatml, or another template"
            )
        return _AssistantTurn(prefix, whole[len(prefix) :])

    def _through_end_of_turn(self, text: str) -> str:
        """The assistant's text up to the end of the turn, without what the template writes after it."""
        if text.endswith(self._turn_suffix):
            return text[: len(text) - len(self._turn_suffix)] + self._end_of_turn
        special_tokens = self.tokenizer.all_special_tokens
        ends = [text.rindex(token) + len(token) for token in special_tokens if token in text]
        return text[: max(ends, default=len(text))]

    def _split_at_turns(self, text: str, turns: Sequence[_AssistantTurn]) -> list[tuple[str, int | None]]:
        """Split `text` around the turns that occur in it unchanged; each piece with its turn's index, or None."""
        pieces: list[tuple[str, int | None]] = []
        done = 0
        for number, turn in enumerate(turns):
            if len(turn.prefix) >= done and text.startswith(turn.prefix + turn.text):
                pieces += [(text[done : len(turn.prefix)], None), (turn.text, number)]
                done = len(turn.prefix) + len(turn.text)
        return [*pieces, (text[done:], None)]

    def _encode_pieces(
        self, pieces: Sequence[tuple[str, int | None]], scored_turns: set[int] | None = None
    ) -> TokenizedExample:
        ids: list[int] = []
        loss_mask: list[bool] = []
        for text, turn in pieces:
            new = self._tokenize(text, not ids) if turn is None else self._encode_turn_text(text, not ids)
            ids += new
            loss_mask += [scored_turns is not None and turn in scored_turns] * len(new)
        return ids, loss_mask

    def _encode_turn_text(self, text: str, first: bool) -> list[int]:
        """The ids of a response; EOS is appended if the template has no end-of-turn token."""
        return self._tokenize(text, first) + ([] if self._end_of_turn else [self.tokenizer.eos_token_id])

    def _tokenize(self, text: str, first: bool) -> list[int]:
        """The ids of a piece of text. Where pieces are concatenated, no space is added at their start."""
        if not text:
            return []
        if first or not self._adds_space_prefix:
            return _tokenize_without_special_tokens(self.tokenizer, text)
        newline, ids = (
            _tokenize_without_special_tokens(self.tokenizer, "\n"),
            _tokenize_without_special_tokens(self.tokenizer, "\n" + text),
        )
        return (
            ids[len(newline) :]
            if ids[: len(newline)] == newline
            else _tokenize_without_special_tokens(self.tokenizer, text)
        )

    def render(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        """The conversation as text; with `add_generation_prompt`, followed by the generation prompt."""
        tools = [tool for message in messages for tool in message.tools] if self._supports_tools else []
        turns = [
            self._as_template_message(message)
            for message in messages
            if message.content or not (message.tools and tools)
        ]
        try:
            with time_limit(RENDER_SECONDS):
                text = self.tokenizer.apply_chat_template(
                    turns,
                    tools=tools or None,
                    chat_template=self.source,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
        except (TimeLimitExceeded, MemoryError) as error:
            raise UserError(
                f"the chat template {self.name} does not end ({describe_error(error)}); choose --chat_template chatml"
            ) from None
        except TEMPLATE_ERRORS as error:
            roles = ", ".join(message.role for message in messages)
            raise UserError(
                f"the chat template {self.name} cannot render a conversation of {roles} ({error}); fix the data, or "
                "choose --chat_template chatml"
            ) from None
        for message in messages:
            if message.role in ("system", "user") and message.content.strip() not in text:
                raise UserError(f"the chat template {self.name} omits a {message.role} turn; choose another one")
        return text

    def _as_template_message(self, message: Message) -> dict[str, Any]:
        """A message in the form that templates expect; tool calls and signatures become text if unsupported."""
        if message.tool_calls and self._supports_tool_calls:
            return {"role": message.role, "content": message.content, "tool_calls": list(message.tool_calls)}
        if message.tools and self._supports_tools:
            return {"role": message.role, "content": message.content}
        return {"role": message.role, "content": message_text(message)}


def _tokenize_without_special_tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _tokenizer_adds_space(tokenizer: Any) -> bool:
    """Whether the tokenizer adds a space before a text, as SentencePiece does."""
    newline = _tokenize_without_special_tokens(tokenizer, "\n")
    return _tokenize_without_special_tokens(tokenizer, "\na") != newline + _tokenize_without_special_tokens(
        tokenizer, "a"
    )


def _first_token(text: str, tokens: Sequence[str]) -> str:
    """The token at the start of a text, the longest if there are several; empty if there is none."""
    found = [token for token in tokens if token and token in text]
    return min(found, key=lambda token: (text.index(token), -len(token)), default="")
