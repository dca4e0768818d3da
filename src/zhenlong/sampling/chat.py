"""Interactive use in a terminal: a chat turn by turn, or completion of plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Protocol

from transformers import PreTrainedTokenizerBase

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.records import Message, Messages
from zhenlong.sampling.sampling_params import SamplingParams

HELP: Final = "/new starts a new conversation, /quit or Ctrl-D exits."


class StreamingSampler(Protocol):
    """A sampler that streams one completion."""

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
    """Chat until the input ends: `read` returns the user's turns, `write` receives responses as they are generated.

    Each response has its own seed, starting with `sampling.seed`. When a conversation exceeds the model's context, a
    message says so and a new conversation starts.
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
            write(f"[{error}; a new conversation starts]\n")
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
    """Complete each line of text from `read` independently, until the input ends."""
    write = write or _print_text
    for turn, text in enumerate(_typed_lines(read, "text> ")):
        try:
            for piece in sampler.stream(document_prompt(tokenizer, text), replace(sampling, seed=sampling.seed + turn)):
                write(piece)
        except UserError as error:
            write(f"[{error}]")
        write("\n")


def document_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of the beginning of a document as in pretraining: with the BOS token if the tokenizer has one.

    Empty text without a BOS token becomes the end-of-text token, which separates documents.
    """
    start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    ids = start + list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids and tokenizer.eos_token_id is None:
        raise UserError("prompt: expected some text; the tokenizer has neither a BOS nor an end-of-text token")
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
