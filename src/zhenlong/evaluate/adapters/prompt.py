"""Prompt construction: instructions, as many in-context examples as fit the context, and the instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.results.instance import Instance
from zhenlong.inference.requests import RequestPrompt
from zhenlong.records import Message, Messages

NO_CORRECT_REFERENCE: Final = "n/a"  # of an example without a correct reference, as in HELM
YES_NO: Final = ("Yes", "No")
PART_SLACK, CHAT_SLACK = 4, 256  # tokens that joining parts, or a chat template, may add


class TokenCounter(Protocol):
    """What the adapters need from a model: its context length and the number of tokens of a prompt."""

    @property
    def context_length(self) -> int | None:
        """The maximum number of tokens of prompt and response together; None if unknown."""
        ...

    def count_tokens(self, prompt: RequestPrompt) -> int:
        """The number of tokens of a prompt."""
        ...


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt that fits the context; `dropped` counts examples left out, `cut` says that the input was truncated."""

    prompt: RequestPrompt
    num_dropped_examples: int = 0
    input_truncated: bool = False


def choice_letters(adapter: Adapter, instance: Instance) -> list[str]:
    """The letters of the instance's references: A, B, C ..., in the style of the choice prefix."""
    first = ord(adapter.choice_prefix.lstrip()[:1] or "A")
    return [chr(first + number) for number in range(len(instance.references))]


def answer_leading_space(adapter: Adapter) -> str:
    """The white space between prompt and answer; it is tokenized with the answer's first token."""
    return adapter.output_prefix[len(adapter.output_prefix.rstrip()) :]


def instance_block(adapter: Adapter, instance: Instance, passage: int = 0) -> str:
    """The instance at the end of the prompt, up to the output prefix without its trailing white space."""
    return _question(adapter, instance, passage) + adapter.output_prefix.rstrip()


def example_block(adapter: Adapter, example: Instance) -> str:
    """An example with its answer."""
    if adapter.method == "ranking":
        several = [
            _question(adapter, example, place)
            + adapter.output_prefix
            + YES_NO[not one.is_correct]
            + adapter.output_suffix
            for place, one in enumerate(example.references)
        ]
        return adapter.instance_separator.join(several)
    return (
        _question(adapter, example) + adapter.output_prefix + example_answer(adapter, example) + adapter.output_suffix
    )


def example_answer(adapter: Adapter, example: Instance) -> str:
    """The answer of an example: its letter, its first correct reference, or all correct ones if `multi_label`."""
    if "example" in example.data:
        return str(example.data["example"])
    if adapter.method == "multiple_choice_joint":
        letters = choice_letters(adapter, example)
        right = [letters[place] for place in example.correct_indices]
    else:
        right = list(example.correct_texts)
    return ", ".join(right if adapter.multi_label else right[:1]) or NO_CORRECT_REFERENCE


def prompt_parts(adapter: Adapter, examples: Sequence[Instance], block: str) -> list[str]:
    """The parts of a text prompt; their concatenation is the prompt."""
    blocks = [adapter.instructions] if adapter.instructions else []
    blocks += [example_block(adapter, one) for one in examples]
    return [part + adapter.instance_separator for part in blocks] + [block]


def chat_messages(adapter: Adapter, examples: Sequence[Instance], instance: Instance, block: str) -> Messages:
    """A chat prompt: system message, examples as turns, the instance's history and its input."""
    history = [Message(str(one["role"]), str(one["content"])) for one in instance.data.get("history", ())]
    start = [] if not adapter.system or any(one.role == "system" for one in history) else [adapter.system]
    messages = [Message("system", text) for text in start]
    for one in examples:
        messages.append(Message("user", _with_instructions(adapter, instance_block(adapter, one))))
        messages.append(Message("assistant", example_answer(adapter, one)))
    return (*messages, *history, Message("user", _with_instructions(adapter, block)))


def fit_text_prompt(
    token_counter: TokenCounter,
    build_parts: Callable[[int, str], list[str]],
    shots: int,
    text: str,
    reserved_tokens: int,
) -> FittedPrompt | None:
    """A text prompt that leaves `response_tokens` of the context free; None if none fits.

    `make(num_examples, input)` returns its parts. Examples are dropped from the last on; without examples the input is
    truncated on the right. The text around the input stays (HELM truncates that instead).
    """

    def fits(parts: list[str]) -> bool:
        if token_counter.context_length is None:
            return True
        limit = token_counter.context_length - reserved_tokens
        if sum(token_counter.count_tokens(part) for part in parts) + PART_SLACK * len(parts) <= limit:
            return True
        return token_counter.count_tokens("".join(parts)) <= limit

    found = _fit(build_parts, shots, text, fits)
    return None if found is None else FittedPrompt("".join(found[0]), found[1], found[2])


def fit_chat_prompt(
    token_counter: TokenCounter,
    build_messages: Callable[[int, str], Messages],
    shots: int,
    text: str,
    reserved_tokens: int,
) -> FittedPrompt | None:
    """The same for a chat prompt."""

    def fits(messages: Messages) -> bool:
        if token_counter.context_length is None:
            return True
        limit = token_counter.context_length - reserved_tokens
        if sum(token_counter.count_tokens(one.content) + PART_SLACK for one in messages) + CHAT_SLACK <= limit:
            return True
        return token_counter.count_tokens(messages) <= limit

    found = _fit(build_messages, shots, text, fits)
    return None if found is None else FittedPrompt(*found)


def _fit(build: Callable, shots: int, text: str, fits: Callable) -> tuple | None:
    for num_examples in range(shots, -1, -1):
        whole = build(num_examples, text)
        if fits(whole):
            return whole, shots - num_examples, False
    low, high = 0, len(text)  # bounds of the longest prefix of the input that fits
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(build(0, text[:middle])) else (low, middle - 1)
    return (build(0, text[:low]), shots, True) if low else None


def _question(adapter: Adapter, instance: Instance, passage: int = 0) -> str:
    question = adapter.input_prefix + instance.input + adapter.input_suffix
    if adapter.method == "ranking":
        return adapter.choice_prefix + instance.references[passage].text + adapter.choice_suffix + question
    if adapter.method != "multiple_choice_joint":
        return question
    first = adapter.choice_prefix.lstrip()[:1]
    for letter, one in zip(choice_letters(adapter, instance), instance.references, strict=True):
        prefix = adapter.choice_prefix.replace(first, letter) if first else ""
        question += prefix + one.text + adapter.choice_suffix
    return question


def _with_instructions(adapter: Adapter, block: str) -> str:
    return f"{adapter.instructions}{adapter.instance_separator}{block}" if adapter.instructions else block
