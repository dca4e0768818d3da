"""Prompts of given lengths, to measure how time depends on the number of prompt and output tokens.

HELM cuts its prompts out of old books with each model's tokenizer
(stanford-crfm/helm:src/helm/benchmark/scenarios/synthetic_efficiency_scenario.py). Ours are sentences of common words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.scenarios.instances import generator

PROMPT_TOKENS: Final = (1, 16, 32, 64, 256, 512, 768, 1024, 1536, 1920)
OUTPUT_TOKENS: Final = (1, 2, 4, 8, 16, 32, 64)
SUBJECTS: Final = ("the man", "the woman", "a child", "the king", "an old friend", "the doctor", "a young girl")
VERBS: Final = ("saw", "found", "left", "took", "lost", "bought", "made", "kept", "brought", "read")
OBJECTS: Final = ("the letter", "a book", "the horse", "some bread", "a small house", "the money", "a long story")
PLACES: Final = ("in the town", "by the river", "near the church", "on the road", "at night", "in the morning")


@generator("lengths")
def lengths(n: int, seed: int, *, tokenizer: str = "", longest: int = 1920) -> Iterator[Mapping[str, Any]]:
    """{prompt, prompt_tokens, output_tokens}: `n` prompts for each pair of HELM's lengths.

    With `tokenizer`, a Hugging Face folder or id, a prompt has exactly that many of its tokens; without one each word
    or full stop counts as one token, as common words do in most vocabularies. The model's own counts are measured
    anyway. Prompts longer than `longest` are left out.
    """
    count = _counter(tokenizer)
    pairs = [(read, said) for read in PROMPT_TOKENS if read <= longest for said in OUTPUT_TOKENS]
    for number in range(n):
        rng = Random(f"lengths/{seed}/{number}")
        for read, said in rng.sample(pairs, len(pairs)):  # shuffled, so that the first few vary in both lengths
            yield {"prompt": _prompt_of_length(rng, read, count), "prompt_tokens": read, "output_tokens": said}


def count_words_and_stops(text: str) -> int:
    """The number of words and full stops of a text."""
    return len(text.replace(".", " .").split())


def _prompt_of_length(rng: Random, tokens: int, count: Callable[[str], int]) -> str:
    """As many words of generated sentences as give this number of tokens."""
    words: list[str] = []
    while count(" ".join(words)) < tokens:
        words += _sentence(rng).split(" ")
    low, high = 0, len(words)  # the fewest words that have as many tokens
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(" ".join(words[:middle])) >= tokens else (middle + 1, high)
    prompt = " ".join(words[:low])
    while prompt and count(prompt) > tokens:
        prompt = prompt[:-1]
    return prompt


def _sentence(rng: Random) -> str:
    said = " ".join(rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, PLACES))
    return f"{said[0].upper()}{said[1:]}."


def _counter(tokenizer: str) -> Callable[[str], int]:
    if not tokenizer:
        return count_words_and_stops
    from zhenlong.models import load_tokenizer

    try:
        loaded = load_tokenizer(tokenizer)
    except UserError as error:
        raise UserError(f"generated:lengths: tokenizer={tokenizer}: {error}") from None
    return lambda text: len(loaded(text, add_special_tokens=False)["input_ids"])
