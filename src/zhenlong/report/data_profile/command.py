"""`zhenlong data profile`: what data sets are like, side by side.

What text alone tells is measured on every record (`zhenlong.data.portrait`); toxicity and language, which take longer,
on a random sample of responses (prompts where there are none).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhenlong.data.blend import sources_alone
from zhenlong.data.commands import kind_of
from zhenlong.data.duplicates import THRESHOLD
from zhenlong.data.portrait import Portrait, Tokens, portrait, said_of
from zhenlong.data.reader import BadRow, placed
from zhenlong.errors import UserError
from zhenlong.evaluate.comparison.compare import console
from zhenlong.evaluate.toxicity_scorers import LEXICON, scorer
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.models import load_tokenizer
from zhenlong.records import Record
from zhenlong.report.data_profile.page import page_of
from zhenlong.report.data_profile.table import table_of
from zhenlong.verify.instructions.wholes import language_of

TOXIC = 0.5  # a score from which a text counts as toxic
UNKNOWN = "unknown"  # the language of a text without letters


@dataclass(frozen=True)
class Sampled:
    """What was measured on `n` texts drawn at random. `toxicity` is their mean score."""

    n: int
    toxicity: float | None
    toxic: float | None
    languages: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Profile:
    """One source: its rows, those that could not be read, and what the others are like."""

    source: str
    rows: int
    bad: tuple[BadRow, ...]
    portrait: Portrait
    sampled: Sampled


def profile(
    sources: str,
    *,
    kind: str = "",
    tokenizer: str = "",
    similar: float = THRESHOLD,
    sample: int = 1000,
    toxicity: str = LEXICON,
    language: bool = True,
    seed: int = 0,
    output: str = "",
    html: str = "",
) -> None:
    """Show what data sets are like: rows, turns, lengths, form, vocabulary, copies, toxicity, language, preferences.

    Args:
        sources: Files, hf:owner/name or world:<kind>; several with commas stand side by side.
        kind: What they are read as: document, demonstration, ranking, rating or task; empty takes each format's own.
        tokenizer: Model or folder whose tokenizer counts tokens; empty counts characters alone.
        similar: Jaccard similarity of word trigrams from which two records are near copies.
        sample: Texts of each source that toxicity and language are measured on, drawn at random; 0 takes all.
        toxicity: Scorer of toxicity: lexicon, a classifier's folder or hub id, or none.
        language: Whether to tell the languages apart.
        seed: Seed of the sample.
        output: JSON file to write everything to.
        html: Page to write, one file that needs nothing but itself.

    Rows that cannot be read are counted and left out; `zhenlong data check` lists them. See docs/data.md.
    """
    if not 0 < similar <= 1 or sample < 0:
        raise UserError(f"data profile: expected similar in (0, 1] and sample of 0 or more, got {similar} and {sample}")
    tokens = _counter(tokenizer) if tokenizer else None
    asked = _Asked(sample, toxicity, language, seed)
    found = [_profile(spec, kind_of(kind), tokens, similar, asked) for spec in sources_alone(sources)]
    if output:
        every = [asdict(one) | {"bad": [asdict(row) for row in one.bad]} for one in found]
        write_json(Path(output), {"similar": similar, "tokenizer": tokenizer, "seed": seed, "sources": every})
    if html:
        write_text(Path(html), page_of(found, tokenizer, similar))
    console().print(table_of(found))


@dataclass(frozen=True)
class _Asked:
    sample: int
    toxicity: str
    language: bool
    seed: int


def _profile(spec: str, kind: type[Record] | None, tokens: Tokens | None, similar: float, asked: _Asked) -> Profile:
    bad: list[BadRow] = []
    records = list(placed(spec, kind, bad=bad))
    if not records:
        raise UserError(f"{spec}: no usable rows, expected at least one; see zhenlong data check {spec}")
    rows = len({place for place, _ in records}) + len(bad)
    return Profile(spec, rows, tuple(bad), portrait(records, tokens, similar), _sampled(records, asked))


def _sampled(records: Sequence[tuple[str, Record]], asked: _Asked) -> Sampled:
    said = [said_of(record) for _, record in records]
    texts = [text for one in said for text in one.responses] or [one.prompt for one in said]
    if asked.sample and asked.sample < len(texts):
        generator = np.random.Generator(np.random.PCG64(asked.seed))
        texts = [texts[place] for place in sorted(generator.permutation(len(texts))[: asked.sample].tolist())]
    scores = [] if asked.toxicity == "none" else scorer(asked.toxicity)(texts)
    spoken = Counter(language_of(text) or UNKNOWN for text in texts) if asked.language else Counter()
    shares = tuple(
        (name, count / len(texts)) for name, count in sorted(spoken.items(), key=lambda one: (-one[1], one[0]))
    )
    mean, toxic = (
        (float(np.mean(scores)), sum(one >= TOXIC for one in scores) / len(scores)) if scores else (None, None)
    )
    return Sampled(len(texts), mean, toxic, shares)


def _counter(name: str) -> Tokens:
    tokenizer: Any = load_tokenizer(name)

    def tokens(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]

    return tokens
