"""Chat templates: a conversation as token ids, and which of them the assistant says.

A template is a Jinja text: the tokenizer's own or a built-in one. A conversation is rendered turn by turn and tokenised
in pieces that are cut where the assistant begins and ends, exactly where generation begins and ends. So the ids of a
prompt and of a response put together are the ids of the conversation, and those of earlier turns stay as they were.

The end of a turn is the first added token that the template writes after the assistant's words. A template that writes
none there would never stop: then the eos token is put after the words. Either way generation stops at `stop_ids`, which
are the tokens that training has taught. Rendered text already holds its BOS, so none is added to it.

Left to the tokenizer: text of a message that spells a special token becomes that token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError

from zhenlong.data.builtin_templates import BUILT_IN, built_in
from zhenlong.data.chats import spoken
from zhenlong.errors import UserError
from zhenlong.records import Message, Messages

Sample = tuple[list[int], list[bool]]  # token ids and which of them are scored, of the same length

_PROBE: Final = "zhenlong"


@dataclass(frozen=True)
class _Turn:
    """One turn of the assistant in rendered text: all that comes before it, and its words with the end of the turn."""

    before: str
    words: str


class Template:
    """A tokenizer with a chat template. Make one with `Template.of`.

    `source` is the Jinja text; set it as `tokenizer.chat_template` before the tokenizer is saved, and other programs
    will talk to the model as it was trained.
    """

    def __init__(self, tokenizer: Any, source: str, name: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.source = source
        self.name = name
        self._calls = "tool_calls" in source
        self._tools = re.search(r"\btools\b", source) is not None
        self._prefixed = _adds_prefix(tokenizer)
        probe = self._turn((Message("user", _PROBE),), Message("assistant", _PROBE))
        if _PROBE not in probe.words:
            raise UserError(f"the chat template {name} does not show what the assistant says; choose another one")
        self._tail = probe.words[probe.words.rindex(_PROBE) + len(_PROBE) :]
        marker = _first_token(self._tail, tokenizer.get_added_vocab())
        self._closing = self._tail[: self._tail.index(marker) + len(marker)] if marker else ""
        eos = tokenizer.eos_token_id
        if not marker and eos is None:
            raise UserError(
                f"the chat template {name} writes no token after an answer and the tokenizer has no eos token"
            )
        ends = (tokenizer.convert_tokens_to_ids(marker) if marker else eos, eos)
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(end for end in ends if end is not None))

    @staticmethod
    def of(tokenizer: Any, name: str = "auto") -> Template:
        """The tokenizer's own template (`auto`) or the built-in `chatml`, `llama2`, `llama3` or `alpaca`.

        Raises `UserError` for a tokenizer without a template when none is chosen, and for an unknown name.
        """
        if name in BUILT_IN:
            return Template(tokenizer, built_in(tokenizer, name), name)
        if name != "auto":
            raise UserError(f"--chat_template {name}: unknown; expected auto, {', '.join(BUILT_IN)}")
        if not tokenizer.chat_template:
            choices = "|".join(BUILT_IN)
            raise UserError(f"the tokenizer has no chat template; choose one with --chat_template {choices}")
        return Template(tokenizer, tokenizer.get_chat_template())

    def prompt(self, messages: Messages) -> list[int]:
        """The ids of a prompt, up to where the assistant begins to speak."""
        text = self.render(messages, opened=True)
        return self._encode(self._pieces(text, self._turns(messages)))[0]

    def response(self, messages: Messages, text: str, closed: bool = True) -> list[int]:
        """The ids of `text` as the answer to the prompt `messages`, through the end of the turn.

        `closed=False` leaves the end of the turn out, as for an answer that was cut off.
        """
        turn = self._turn(messages, Message("assistant", text))
        words = turn.words
        if closed:
            return self._encode_words(self._closed(words), first=not turn.before)
        words = words[: len(words) - len(self._tail)] if words.endswith(self._tail) else words
        return self._tokens(words, first=not turn.before)

    def conversation(self, messages: Messages) -> Sample:
        """The ids of a conversation up to the end of the assistant's last turn, and which the assistant says.

        Raises `UserError` when no turn is the assistant's, and for a template that rewrites what was said once the
        conversation goes on (a stripped `<think>`): no one row of ids holds all turns then; `samples` gives several.
        """
        found = self.samples(messages)
        if len(found) > 1:
            raise UserError(
                f"the chat template {self.name} rewrites earlier turns, so this conversation is {len(found)} training "
                "samples; train on them one by one, or choose --chat_template chatml"
            )
        return found[0]

    def samples(self, messages: Messages) -> list[Sample]:
        """The conversation as few rows of ids, in which each of the assistant's turns is scored exactly once.

        One for most templates. A turn that the template rewrites later gets a sample of its own that ends with it, and
        is context, as the model would see it, in those that follow.
        """
        turns = self._turns(messages)
        if not turns:
            raise UserError("a conversation without an assistant turn has nothing to train on; leave it out")
        found: list[Sample] = []
        left = set(range(len(turns)))
        while left:
            last = max(left)
            pieces = self._pieces(turns[last].before, turns[:last])
            pieces.append((turns[last].words, last))
            found.append(self._encode(pieces, left))
            left -= {turn for _, turn in pieces if turn is not None}
        return found[::-1]

    def _turns(self, messages: Messages) -> list[_Turn]:
        spoken_by = [i for i, message in enumerate(messages) if message.role == "assistant"]
        turns = [self._turn(messages[:i], messages[i]) for i in spoken_by]
        return [_Turn(turn.before, self._closed(turn.words)) for turn in turns]

    def _turn(self, before: Messages, message: Message) -> _Turn:
        if not before:
            raise UserError(
                "the conversation begins with the assistant; expected the system's or the user's turn first"
            )
        opening = self.render(before, opened=True)
        whole = self.render((*before, message), opened=False)
        if not whole.startswith(opening):
            raise UserError(
                f"the chat template {self.name} writes an answer otherwise than it opens one for generation "
                f"({opening[-30:]!r}); choose --chat_template chatml, or a template that does not"
            )
        return _Turn(opening, whole[len(opening) :])

    def _closed(self, words: str) -> str:
        """The assistant's words through the end of the turn, without what the template writes after it."""
        if words.endswith(self._tail):
            return words[: len(words) - len(self._tail)] + self._closing
        added = self.tokenizer.all_special_tokens
        ends = [words.rindex(token) + len(token) for token in added if token in words]
        return words[: max(ends, default=len(words))]

    def _pieces(self, text: str, turns: Sequence[_Turn]) -> list[tuple[str, int | None]]:
        """`text` cut around the turns that stand in it unchanged; a piece is with its turn's number, or None."""
        pieces: list[tuple[str, int | None]] = []
        done = 0
        for number, turn in enumerate(turns):
            if len(turn.before) >= done and text.startswith(turn.before + turn.words):
                pieces += [(text[done : len(turn.before)], None), (turn.words, number)]
                done = len(turn.before) + len(turn.words)
        return [*pieces, (text[done:], None)]

    def _encode(self, pieces: Sequence[tuple[str, int | None]], scored: set[int] | None = None) -> Sample:
        ids: list[int] = []
        mask: list[bool] = []
        for text, turn in pieces:
            new = self._tokens(text, not ids) if turn is None else self._encode_words(text, not ids)
            ids += new
            mask += [scored is not None and turn in scored] * len(new)
        return ids, mask

    def _encode_words(self, words: str, first: bool) -> list[int]:
        """An answer's ids; eos ends it where the template has no token that does."""
        return self._tokens(words, first) + ([] if self._closing else [self.tokenizer.eos_token_id])

    def _tokens(self, text: str, first: bool) -> list[int]:
        """The ids of a piece of text. Where pieces follow one another none gets the space that begins a text."""
        if not text:
            return []
        if first or not self._prefixed:
            return _plain_ids(self.tokenizer, text)
        newline, ids = _plain_ids(self.tokenizer, "\n"), _plain_ids(self.tokenizer, "\n" + text)
        return ids[len(newline) :] if ids[: len(newline)] == newline else _plain_ids(self.tokenizer, text)

    def render(self, messages: Messages, opened: bool = False) -> str:
        """The conversation as text; `opened` goes on to where the assistant begins to speak."""
        tools = [tool for message in messages for tool in message.tools] if self._tools else []
        turns = [self._plain(message) for message in messages if message.content or not (message.tools and tools)]
        try:
            text = self.tokenizer.apply_chat_template(
                turns, tools=tools or None, chat_template=self.source, tokenize=False, add_generation_prompt=opened
            )
        except (TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(message.role for message in messages)
            raise UserError(
                f"the chat template {self.name} cannot render a conversation of {roles} ({error}); mend the data, or "
                "choose --chat_template chatml"
            ) from None
        for message in messages:
            if message.role in ("system", "user") and message.content.strip() not in text:
                raise UserError(f"the chat template {self.name} leaves out a {message.role} turn; choose another one")
        return text

    def _plain(self, message: Message) -> dict[str, Any]:
        """A message as templates take it; tool calls and signatures become text where the template knows none."""
        if message.tool_calls and self._calls:
            return {"role": message.role, "content": message.content, "tool_calls": list(message.tool_calls)}
        if message.tools and self._tools:
            return {"role": message.role, "content": message.content}
        return {"role": message.role, "content": spoken(message)}


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _adds_prefix(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a space before a text, as SentencePiece ones do."""
    newline = _plain_ids(tokenizer, "\n")
    return _plain_ids(tokenizer, "\na") != newline + _plain_ids(tokenizer, "a")


def _first_token(text: str, tokens: Sequence[str]) -> str:
    """The token that stands first in a text, the longest where several begin there; empty if none does."""
    found = [token for token in tokens if token and token in text]
    return min(found, key=lambda token: (text.index(token), -len(token)), default="")
