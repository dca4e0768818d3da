"""Our own word lists for perturbations and for bias and toxicity metrics, described in README.md."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def read_wordlist(name: str) -> tuple[tuple[str, ...], ...]:
    """The tab-separated rows of a list, skipping comments (`#`) and empty lines."""
    text = files("zhenlong.evaluate.wordlists").joinpath(name).read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return tuple(
        tuple(part.strip() for part in line.split("\t")) for line in lines if line and not line.startswith("#")
    )


@cache
def wordlist_words(name: str) -> tuple[str, ...]:
    """All words of a list with comma-separated words on each line."""
    return tuple(word.strip() for (line,) in read_wordlist(name) for word in line.split(",") if word.strip())


@cache
def words_by_group(name: str) -> dict[str, tuple[str, ...]]:
    """The words of each group, from rows of a group and comma-separated words; rows of one group are merged."""
    found: dict[str, tuple[str, ...]] = {}
    for group, line in read_wordlist(name):
        found[group] = found.get(group, ()) + tuple(word.strip() for word in line.split(",") if word.strip())
    return found


@cache
def replacements(name: str) -> dict[str, tuple[str, ...]]:
    """The possible replacements of each word, from rows of a word and its comma-separated replacements."""
    return {word: tuple(one.strip() for one in line.split(",")) for word, line in read_wordlist(name)}
