"""`zhenlong sample`: chat with a model, or complete one prompt or a file of prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from transformers import PreTrainedTokenizerBase
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate, read
from zhenlong.data.options import TemplateOptions
from zhenlong.errors import UserError
from zhenlong.loop.atomic import write_text
from zhenlong.models import load_model
from zhenlong.models.options import LoadOptions
from zhenlong.options import take_options
from zhenlong.options.keywords import SampleKwargs
from zhenlong.records import Message, Messages, Task
from zhenlong.sampling.sampler import TorchSampler
from zhenlong.sampling.sequence_state import Completion
from zhenlong.sampling.token_sampling import SamplingParams

HELP: Final = "/new starts a new conversation, /quit or Ctrl-D exits."


def sample_command(
    model: str,
    prompt: str | None = None,
    *,
    prompts: str | None = None,
    output: str | None = None,
    raw: bool = False,
    system: str = "",
    samples_per_prompt: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    max_tokens: int = 256,
    stop: Sequence[str] = (),
    seed: int = 0,
    max_num_seqs: int | None = None,
    **options: Unpack[SampleKwargs],
) -> list[list[str]]:
    """Chat with a model in the terminal, or complete prompts.

    Args:
        model: The model: pocket, a model or run folder, or a hub id.
        prompt: One prompt to complete; without it (and without `prompts`) a chat starts in the terminal.
        prompts: Prompts to complete: a text file with one per line, or tasks (file, hf:owner/name, world:tasks).
        output: File for the completions, one JSON object per line with prompt, response and truncated; else printed.
        raw: Continue plain text instead of responding as an assistant.
        system: System message of every conversation.
        samples_per_prompt: Completions per prompt.
        temperature: Divides the logits; 0 is greedy, lower is more deterministic, higher more random.
        top_k: Sample from this many most probable tokens; 0 from all.
        top_p: Sample from the smallest set of tokens with this total probability; 1 from all.
        min_p: Sample only tokens with at least this fraction of the highest probability; 0 from all.
        max_tokens: Maximum length of a completion, in tokens.
        stop: Strings that end a completion, excluded from it.
        seed: Seed; the same seed and prompts give the same completions.
        max_num_seqs: Completions generated at once; by default as many as fit the memory set aside (16 to 256).
    """
    template_options, load_options = take_options(options, TemplateOptions(), LoadOptions())
    sampling = SamplingParams(
        temperature, top_k=top_k, top_p=top_p, min_p=min_p, max_tokens=max_tokens, stop=tuple(stop), seed=seed
    )
    if prompt is not None and prompts is not None:
        raise UserError("--prompt and --prompts: expected one of them, got both")
    if raw and system:
        raise UserError("--system: plain text has no system message; omit --raw or --system")
    if prompt is None and prompts is None and (samples_per_prompt != 1 or output):
        raise UserError(
            "--samples_per_prompt and --output: a chat has one response per turn; give --prompt or --prompts"
        )
    inputs: Sequence[str | Messages] = _read_prompts(prompts, raw) if prompts is not None else [prompt or ""]
    network, tokenizer = load_model(model, **load_options.as_dict())
    sampler = TorchSampler(network, tokenizer, max_num_seqs=max_num_seqs)
    template = None if raw else ChatTemplate.from_tokenizer(tokenizer, template_options.template_spec)
    if prompt is None and prompts is None:
        if template is None:
            complete_lines(sampler, tokenizer, sampling)
        else:
            chat(sampler, template, sampling, system=system)
        return []
    if template is not None:
        sampling = replace(sampling, stop_token_ids=template.stop_ids)
        inputs = [_to_messages(one, system) for one in inputs]
    prompt_ids = [_prompt_ids(one, tokenizer, template) for one in inputs]
    return _complete(
        sampler, inputs, prompt_ids, sampling=sampling, samples_per_prompt=samples_per_prompt, output=output
    )


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


def _complete(
    sampler: TorchSampler,
    inputs: Sequence[str | Messages],
    prompt_ids: Sequence[list[int]],
    *,
    sampling: SamplingParams,
    samples_per_prompt: int,
    output: str | None,
) -> list[list[str]]:
    """Sample `samples_per_prompt` completions of each prompt; print them, or write them to `output`."""
    if output is None and samples_per_prompt == len(prompt_ids) == 1:
        pieces = []
        for piece in sampler.stream(prompt_ids[0], sampling):
            print(piece, end="", flush=True)
            pieces.append(piece)
        print()
        return [["".join(pieces)]]
    completions = sampler.sample(prompt_ids, sampling, samples_per_prompt)
    if output is not None:
        rows = [
            _output_row(one, completion)
            for one, several in zip(inputs, completions, strict=True)
            for completion in several
        ]
        write_text(Path(output), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    texts = [[completion.text for completion in several] for several in completions]
    if output is None:
        for text in (text for several in texts for text in several):
            print(text, end="\n\n", flush=True)
    return texts


def _read_prompts(spec: str, raw: bool) -> Sequence[str | Messages]:
    """The prompts in a text file, one per line, or those of tasks."""
    path = Path(spec)
    if raw or path.suffix in (".txt", ""):
        if not path.is_file():
            if not raw and ":" in spec:
                return [task.prompt for task in read(spec, Task)]
            raise UserError(f"--prompts {spec}: no such file; expected text with one prompt per line")
        try:
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompts {spec}: cannot be read as UTF-8 text ({error})") from None
        if not lines:
            raise UserError(f"--prompts {spec}: the file is empty; expected one prompt per line")
        return lines
    return [task.prompt for task in read(spec, Task)]


def _to_messages(prompt: str | Messages, system: str) -> Messages:
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return (Message("system", system), *messages) if system and messages[0].role != "system" else messages


def _prompt_ids(prompt: str | Messages, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate | None) -> list[int]:
    if template is None or isinstance(prompt, str):
        return document_prompt(tokenizer, str(prompt))
    return template.encode_prompt(prompt)


def _output_row(prompt_input: str | Messages, completion: Completion) -> dict[str, Any]:
    prompt = (
        prompt_input
        if isinstance(prompt_input, str)
        else [{"role": m.role, "content": m.content} for m in prompt_input]
    )
    return {"prompt": prompt, "response": completion.text, "truncated": completion.truncated}
