"""Talking to a model in a terminal: a conversation turn by turn, or text that it carries on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Protocol

from transformers import PreTrainedTokenizerBase

from zhenlong.data import Template
from zhenlong.errors import UserError
from zhenlong.records import Message, Messages
from zhenlong.sampling.request import Sampling

HELP: Final = "/new begins a new conversation, /quit or Ctrl-D ends."


class Streamer(Protocol):
    """A sampler that gives one completion piece by piece."""

    def stream(self, prompt: list[int], sampling: Sampling) -> Iterator[str]: ...


Read = Callable[[str], str]
Write = Callable[[str], None]


def chat(
    sampler: Streamer,
    template: Template,
    sampling: Sampling,
    *,
    system: str = "",
    read: Read = input,
    write: Write | None = None,
) -> None:
    """Converse until the input ends: `read` gives the user's turns, `write` gets the answers as they are generated.

    Every answer is drawn with a seed of its own, the first with `sampling.seed`. A conversation that no longer fits the
    model's context is said to have ended, and a new one begins.
    """
    write = write or _print
    start: Messages = (Message("system", system),) if system else ()
    sampling = replace(sampling, stop_ids=(*sampling.stop_ids, *template.stop_ids))
    write(f"{HELP}\n")
    messages = start
    for turn, text in enumerate(_lines(read, "> ")):
        if text == "/new":
            messages = start
            continue
        asked = (*messages, Message("user", text))
        try:
            answer = ""
            for piece in sampler.stream(template.prompt(asked), replace(sampling, seed=sampling.seed + turn)):
                answer += piece
                write(piece)
        except UserError as error:
            write(f"[{error}; a new conversation begins]\n")
            messages = start
            continue
        write("\n")
        messages = (*asked, Message("assistant", answer))


def carry_on(
    sampler: Streamer,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    *,
    read: Read = input,
    write: Write | None = None,
) -> None:
    """Carry on each line of text that `read` gives, until the input ends; no line knows of another."""
    write = write or _print
    for turn, text in enumerate(_lines(read, "text> ")):
        try:
            for piece in sampler.stream(text_ids(tokenizer, text), replace(sampling, seed=sampling.seed + turn)):
                write(piece)
        except UserError as error:
            write(f"[{error}]")
        write("\n")


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of the beginning of a document, as pretraining saw documents: one start token where the tokenizer has one.

    Empty text without a start token begins with the end-of-text token, after which documents follow one another.
    """
    start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    ids = start + list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids and tokenizer.eos_token_id is None:
        raise UserError("prompt: expected some text; the tokenizer has neither a start nor an end-of-text token")
    return ids or [int(tokenizer.eos_token_id)]


def _lines(read: Read, sign: str) -> Iterator[str]:
    while True:
        try:
            text = read(sign).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if text == "/quit":
            return
        if text:
            yield text


def _print(text: str) -> None:
    print(text, end="", flush=True)
