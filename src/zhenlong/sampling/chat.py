"""Talking to a model in a terminal: a conversation turn by turn, or text that it carries on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Protocol

from transformers import PreTrainedTokenizerBase

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.records import Message, Messages
from zhenlong.sampling.sampling_params import SamplingParams

HELP: Final = "/new begins a new conversation, /quit or Ctrl-D ends."


class StreamingSampler(Protocol):
    """A sampler that gives one completion piece by piece."""

    def stream(self, prompt: list[int], sampling: SamplingParams) -> Iterator[str]: ...


ReadLine = Callable[[str], str]
WriteText = Callable[[str], None]


def chat(
    sampler: StreamingSampler,
    template: ChatTemplate,
    sampling: SamplingParams,
    *,
    system: str = "",
    read: ReadLine = input,
    write: WriteText | None = None,
) -> None:
    """Converse until the input ends: `read` gives the user's turns, `write` gets the answers as they are generated.

    Every answer is drawn with a seed of its own, the first with `sampling.seed`. A conversation that no longer fits the
    model's context is said to have ended, and a new one begins.
    """
    write = write or _print_text
    start: Messages = (Message("system", system),) if system else ()
    sampling = replace(sampling, stop_token_ids=(*sampling.stop_token_ids, *template.stop_ids))
    write(f"{HELP}\n")
    messages = start
    for turn, text in enumerate(_typed_lines(read, "> ")):
        if text == "/new":
            messages = start
            continue
        conversation = (*messages, Message("user", text))
        try:
            response = ""
            for piece in sampler.stream(
                template.encode_prompt(conversation), replace(sampling, seed=sampling.seed + turn)
            ):
                response += piece
                write(piece)
        except UserError as error:
            write(f"[{error}; a new conversation begins]\n")
            messages = start
            continue
        write("\n")
        messages = (*conversation, Message("assistant", response))


def complete_lines(
    sampler: StreamingSampler,
    tokenizer: PreTrainedTokenizerBase,
    sampling: SamplingParams,
    *,
    read: ReadLine = input,
    write: WriteText | None = None,
) -> None:
    """Carry on each line of text that `read` gives, until the input ends; no line knows of another."""
    write = write or _print_text
    for turn, text in enumerate(_typed_lines(read, "text> ")):
        try:
            for piece in sampler.stream(document_prompt(tokenizer, text), replace(sampling, seed=sampling.seed + turn)):
                write(piece)
        except UserError as error:
            write(f"[{error}]")
        write("\n")


def document_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of the beginning of a document, as pretraining saw documents: one start token where the tokenizer has one.

    Empty text without a start token begins with the end-of-text token, after which documents follow one another.
    """
    start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    ids = start + list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids and tokenizer.eos_token_id is None:
        raise UserError("prompt: expected some text; the tokenizer has neither a start nor an end-of-text token")
    return ids or [int(tokenizer.eos_token_id)]


def _typed_lines(read: ReadLine, prompt: str) -> Iterator[str]:
    while True:
        try:
            text = read(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if text == "/quit":
            return
        if text:
            yield text


def _print_text(text: str) -> None:
    print(text, end="", flush=True)
