"""Chat templates: a conversation as token ids with its loss mask.

A template is Jinja source (`template_sources`). A conversation is rendered turn by turn and tokenised in pieces, split
where the assistant's text starts and ends, exactly as in generation. So the ids of a prompt followed by those of a
response are the ids of the conversation, and the context of every turn is what a server renders for it.

The end of a turn is the first added token that the template writes after the assistant's text. A template that writes
none may begin the next turn with one (GLM's `<|user|>`), which then ends the answer. One without either would never
stop, so EOS is appended to the answer that is trained on; as context it has none. Generation stops at `stop_ids`, which
training has taught. Rendered text already contains its BOS, so none is added.

A generation prompt may open `<think>` where the template drops the reasoning of written answers (DeepSeek-R1's
distilled models). Then the answer is the data's own text after the opening.

A message whose text spells a special token becomes that token, as the tokenizer decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from jinja2 import TemplateError

from zhenlong.data.template_messages import MessageForm, omitted_part, split_reasoning
from zhenlong.data.template_sources import TemplateSource, find_template
from zhenlong.errors import UserError
from zhenlong.guarded_call import TimeLimitExceeded, describe_error, time_limit
from zhenlong.records import Message, Messages

TokenizedExample = tuple[list[int], list[bool]]  # token ids and loss mask, of the same length

_PROBE: Final = "zhenlong"
TEMPLATE_ERRORS: Final = (
    TemplateError, TypeError, KeyError, ValueError, AttributeError, ArithmeticError, RecursionError
)  # fmt: skip
_OPENED_THOUGHT: Final = re.compile(r"<think>\s*\Z")
_CLOSED_THOUGHT: Final = re.compile(r"</think>\s*\Z")
RENDER_SECONDS: Final = 5.0  # of the processor, for one conversation: templates of others may loop


@dataclass(frozen=True)
class _AssistantTurn:
    """One assistant turn in rendered text: the text before it, and its own text including the end of the turn."""

    prefix: str
    text: str


class ChatTemplate:
    """A tokenizer with a chat template. Create one with `ChatTemplate.from_tokenizer`.

    `source` is the Jinja source. Set `template.saved_source` as `tokenizer.chat_template` before saving the tokenizer,
    so that other programs format conversations as in training.
    """

    def __init__(self, tokenizer: Any, found: TemplateSource) -> None:
        self.tokenizer = tokenizer
        self.source, self.name = found.source, found.name
        self.saved_source = found.to_save
        self._tools_source = found.tools_source
        self._adds_space_prefix = _tokenizer_adds_space(tokenizer)
        self._form = self._find_form(MessageForm.of_source(found.source + found.tools_source))
        self._find_ends()

    @staticmethod
    def from_tokenizer(tokenizer: Any, name: str = "auto") -> ChatTemplate:
        """The tokenizer's own template (`auto`), one of its named ones, a built-in one, or a Jinja file.

        Arguments may follow, as in `auto?enable_thinking=false`. Raises `UserError` for what `find_template` refuses,
        and for a template with which nothing can be trained.
        """
        return ChatTemplate(tokenizer, find_template(tokenizer, name))

    def _find_form(self, form: MessageForm) -> MessageForm:
        """The form of messages, with what has to be tried: content as parts, and how tool calls are written."""
        user, call = Message("user", _PROBE), {"name": "probed", "arguments": {"probe": _PROBE}}
        calling = Message("assistant", "", ({"type": "function", "function": call},))
        parts = replace(form, content_parts=True)
        if not self._renders((user,), form) and self._renders((user,), parts):
            form = parts
        if form.reads_tool_calls:
            as_text = replace(form, json_arguments=True)
            if not self._renders((user, calling), form) and self._renders((user, calling), as_text):
                form = as_text
        return form

    def _renders(self, messages: Messages, form: MessageForm) -> bool:
        """Whether the template renders all of messages in this form."""
        try:
            text = self._apply(messages, form, add_generation_prompt=False)
        except TEMPLATE_ERRORS:
            return False
        own_turn = text if messages[-1].role == "assistant" else None
        return not any(omitted_part(message, text, form, own_turn) for message in messages)

    def _find_ends(self) -> None:
        """Find what ends a turn, from how the template renders a short conversation."""
        asked, said = Message("user", _PROBE), Message("assistant", _PROBE)
        prefix = self.render((asked,), add_generation_prompt=True)
        whole = self.render((asked, said))
        if not whole.startswith(prefix) and not _OPENED_THOUGHT.search(prefix):
            raise self._cannot_extend(prefix, said)
        if whole.count(_PROBE) < 2:
            raise UserError(f"the chat template {self.name} does not include the assistant's text; choose another one")
        self._turn_suffix = whole[whole.rindex(_PROBE) + len(_PROBE) :]
        self._end_of_turn = self._find_end_of_turn((asked, said))
        marker = bool(self._end_of_turn)
        self._next_turn = self._next_results = ""
        call = {"type": "function", "function": {"name": _PROBE, "arguments": {_PROBE: _PROBE}}}
        calling = Message("assistant", "", (call,))
        if not marker:
            self._next_turn = self._token_after((asked, said), Message("user", _PROBE))
            self._next_results = self._token_after((asked, calling), Message("tool", _PROBE)) or self._next_turn
        eos = self.tokenizer.eos_token_id
        if not marker and not self._next_turn and eos is None:
            raise UserError(
                f"the chat template {self.name} ends a response with no token, and the tokenizer has no eos token"
            )
        ends = [self._last_token(one) for one in (self._end_of_turn, self._next_turn, self._next_results)]
        if marker and self._form.reads_tool_calls and self._renders((asked, calling), self._form):
            called = self.render((asked, calling))
            ends.append(self._last_token(self._through_end_of_turn(called, calling)))
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(end for end in (*ends, eos) if end is not None))

    def _find_end_of_turn(self, conversation: Messages) -> str:
        """What the template writes after an answer up to its first added token; with those that follow it at once.

        A token counts only if it stands there within a conversation, too: some templates write EOS after the last turn.
        """
        added = self.tokenizer.get_added_vocab()
        first = _first_token(self._turn_suffix, added)
        if not first:
            return ""
        end = self._turn_suffix[: self._turn_suffix.index(first) + len(first)]
        within = self._text_after(conversation, Message("user", _PROBE))
        while True:
            rest = self._turn_suffix[len(end) :]
            token = _first_token(rest, added)
            if not token or not rest.startswith(token) or not within.startswith(token, len(end)):
                return end
            end += token

    def _token_after(self, messages: Messages, following: Message) -> str:
        """The added token with which the template begins a message right after others; empty if it does not."""
        rest = self._text_after(messages, following)
        token = _first_token(rest, self.tokenizer.get_added_vocab())
        return token if token and rest.startswith(token) else ""

    def _text_after(self, messages: Messages, following: Message) -> str:
        """What the template writes after an answer that another message follows; empty if it refuses them."""
        try:
            shorter, longer = self.render(messages), self.render((*messages, following))
        except UserError:
            return ""
        answer_end = len(shorter) - len(self._turn_suffix)
        return longer[answer_end:] if longer.startswith(shorter[:answer_end]) else ""

    def _last_token(self, text: str) -> int | None:
        """The id of the added token that a text ends with, if it does."""
        added = self.tokenizer.get_added_vocab()
        ending = max((token for token in added if text.endswith(token)), key=len, default="")
        return added[ending] if ending else None

    def encode_prompt(self, messages: Messages) -> list[int]:
        """The ids of a prompt, including the generation prompt."""
        text = self.render(messages, add_generation_prompt=True)
        return self._encode_pieces(self._split_at_turns(text, self._assistant_turns(messages)), set())[0]

    def encode_response(self, messages: Messages, text: str, end_turn: bool = True) -> list[int]:
        """The ids of `text` as the response to `messages`, including the end of the turn.

        `end_turn=False` omits the end of the turn, as for a truncated response.
        """
        message = Message("assistant", text)
        turn = self._assistant_turn(messages, message)
        if end_turn:
            ids = self._tokenize(self._through_end_of_turn(turn.text, message), first=not turn.prefix)
            return [*ids, self.tokenizer.eos_token_id] if self._appends_eos else ids
        unended = turn.text.endswith(self._turn_suffix)
        turn_text = turn.text[: len(turn.text) - len(self._turn_suffix)] if unended else turn.text
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
            scored = {last} if self._appends_eos else {turn for _, turn in pieces if turn is not None}
            ids, loss_mask = self._encode_pieces(pieces, scored & unscored_turns)
            ending = [self.tokenizer.eos_token_id] if self._appends_eos else []
            examples.append(([*ids, *ending], [*loss_mask, *[True] * len(ending)]))
            unscored_turns -= scored
        return examples[::-1]

    @property
    def reads_parts(self) -> bool:
        """Whether the template reads content as a list of parts, as those of vision models do."""
        return self._form.content_parts

    @property
    def _appends_eos(self) -> bool:
        """Whether EOS ends an answer. As context it has none, so each answer is an example of its own."""
        return not self._end_of_turn and not self._next_turn

    def _assistant_turns(self, messages: Messages) -> list[_AssistantTurn]:
        found = []
        for i, message in enumerate(messages):
            if message.role == "assistant":
                turn = self._assistant_turn(messages[:i], message)
                found.append(_AssistantTurn(turn.prefix, self._through_end_of_turn(turn.text, message)))
        return found

    def _assistant_turn(self, history: Messages, message: Message) -> _AssistantTurn:
        if not history:
            raise UserError(
                "the conversation starts with the assistant; expected the system's or the user's turn first"
            )
        prefix = self.render(history, add_generation_prompt=True)
        opened = _OPENED_THOUGHT.search(prefix)
        if opened and "</think>" in message.content and "<think>" not in message.content:  # it continues the opening
            message = replace(message, content=opened[0] + message.content)
        whole = self.render((*history, message))
        if whole.startswith(prefix):
            text = whole[len(prefix) :]
        elif opened and _has_reasoning(message) and not message.tool_calls:
            text = _after_opening(message.content, opened[0]) + self._turn_suffix
        else:
            raise self._cannot_extend(prefix, message)
        omitted = omitted_part(message, whole, self._form, text)
        if omitted:
            raise UserError(f"the chat template {self.name} omits {omitted}; choose another one, or change the data")
        return _AssistantTurn(prefix, text)

    def _cannot_extend(self, prefix: str, message: Message) -> UserError:
        """Why an answer does not go on where the generation prompt ends, and what to do."""
        kwargs = (
            "--chat_template_kwargs enable_thinking={}"
            if "enable_thinking" in self.source
            else "--chat_template chatml"
        )
        if _OPENED_THOUGHT.search(prefix) and not _has_reasoning(message):
            return UserError(
                f"the chat template {self.name} opens <think> before an answer, and this answer has no reasoning; put "
                f"it in reasoning_content or in <think>...</think>, or choose {kwargs.format('false')}"
            )
        if _CLOSED_THOUGHT.search(prefix) and _has_reasoning(message):
            return UserError(
                f"the chat template {self.name} closes the reasoning before an answer, and this answer has reasoning; "
                f"leave it out, or choose {kwargs.format('true')}"
            )
        return UserError(
            f"the chat template {self.name} writes a response differently from its generation prompt "
            f"({prefix[-30:]!r}); choose --chat_template chatml, or another template"
        )

    def _through_end_of_turn(self, text: str, message: Message) -> str:
        """The assistant's text up to the end of the turn, without what the template writes after it."""
        if self._next_turn:
            return text + (self._next_results if message.tool_calls else self._next_turn)
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

    def _encode_pieces(self, pieces: Sequence[tuple[str, int | None]], scored_turns: set[int]) -> TokenizedExample:
        ids: list[int] = []
        loss_mask: list[bool] = []
        for text, turn in pieces:
            new = self._tokenize(text, not ids)
            ids += new
            loss_mask += [turn in scored_turns] * len(new)
        return ids, loss_mask

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
        try:
            text = self._apply(messages, self._form, add_generation_prompt)
        except TEMPLATE_ERRORS as error:
            roles = ", ".join(message.role for message in messages)
            raise UserError(
                f"the chat template {self.name} cannot render a conversation of {roles} ({error}); fix the data, or "
                "choose --chat_template chatml"
            ) from None
        for message in messages:
            omitted = omitted_part(message, text, self._form)
            if omitted:
                raise UserError(f"the chat template {self.name} omits {omitted}; choose another one")
        return text

    def _apply(self, messages: Messages, form: MessageForm, add_generation_prompt: bool) -> str:
        tools = [tool for message in messages for tool in message.tools] if form.reads_tools else []
        turns = [
            form.as_template_message(message)
            for message in messages
            if message.content or not (message.tools and tools)
        ]
        try:
            with time_limit(RENDER_SECONDS):
                return str(
                    self.tokenizer.apply_chat_template(
                        turns,
                        tools=tools or None,
                        chat_template=(tools and self._tools_source) or self.source,
                        tokenize=False,
                        add_generation_prompt=add_generation_prompt,
                    )
                )
        except (TimeLimitExceeded, MemoryError) as error:
            raise UserError(
                f"the chat template {self.name} does not end ({describe_error(error)}); choose --chat_template chatml"
            ) from None


def _has_reasoning(message: Message) -> bool:
    return split_reasoning(message.content)[0] != "" or "<think>" in message.content


def _after_opening(content: str, opening: str) -> str:
    """An answer that begins with `<think>`, as the continuation of a prompt that ends with the opening."""
    content = content.lstrip()
    return (
        content.removeprefix(opening) if content.startswith(opening) else content.removeprefix("<think>").lstrip("\n")
    )


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
