"""`zhenlong data profile`: what data sets are like, side by side.

What text alone tells is measured on every record (`zhenlong.data.dataset_stats`); toxicity and language, which take
longer, on a random sample of responses (prompts where there are none).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhenlong.data.commands import record_kind
from zhenlong.data.dataset_stats import DatasetStats, TokenCounter, dataset_stats, record_text
from zhenlong.data.duplicates import NEAR_DUPLICATE_THRESHOLD
from zhenlong.data.mixture_spec import unweighted_sources
from zhenlong.data.reader import BadRow, iter_located_records
from zhenlong.errors import UserError
from zhenlong.evaluate.compare.compare import wide_console
from zhenlong.evaluate.metrics.toxicity_scorers import LEXICON, load_toxicity_scorer
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.models import load_tokenizer
from zhenlong.records import Record
from zhenlong.report.data_profile.page import render_profile
from zhenlong.report.data_profile.table import profile_table
from zhenlong.verify.instructions.response_level import detect_language

TOXIC_THRESHOLD = 0.5  # a score from which a text counts as toxic
UNKNOWN_LANGUAGE = "unknown"  # the language of a text without letters


@dataclass(frozen=True)
class SampleStats:
    """What was measured on `n` texts drawn at random. `toxicity` is their mean score."""

    n: int
    mean_toxicity: float | None
    toxic_fraction: float | None
    languages: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class SourceProfile:
    """One source: its rows, those that could not be read, and what the others are like."""

    source: str
    rows: int
    bad_rows: tuple[BadRow, ...]
    stats: DatasetStats
    sample_stats: SampleStats


def profile(
    sources: str,
    *,
    kind: str = "",
    tokenizer: str = "",
    near_duplicate_threshold: float = NEAR_DUPLICATE_THRESHOLD,
    sample_size: int = 1000,
    toxicity_model: str = LEXICON,
    detect_language: bool = True,
    seed: int = 0,
    output: str = "",
    html: str = "",
) -> None:
    """Show what data sets are like: rows, turns, lengths, form, vocabulary, copies, toxicity, language, preferences.

    Args:
        sources: Files, hf:owner/name or world:<kind>; several with commas stand side by side.
        kind: What they are read as: document, demonstration, ranking, rating or task; empty takes each format's own.
        tokenizer: Model or folder whose tokenizer counts tokens; empty counts characters alone.
        near_duplicate_threshold: Jaccard similarity of word trigrams from which two records are near duplicates.
        sample_size: Random texts of each source on which toxicity and language are measured; 0 takes all.
        toxicity_model: What scores toxicity: lexicon, a classifier's folder or hub id, or none.
        detect_language: Whether to detect the language of each text.
        seed: Seed of the sample.
        output: JSON file to write everything to.
        html: Page to write, one file that needs nothing but itself.

    Rows that cannot be read are counted and left out; `zhenlong data validate` lists them. See docs/data.md.
    """
    if not 0 < near_duplicate_threshold <= 1 or sample_size < 0:
        raise UserError(
            "data profile: expected near_duplicate_threshold in (0, 1] and sample_size of 0 or more, "
            f"got {near_duplicate_threshold} and {sample_size}"
        )
    count_tokens = _token_counter(tokenizer) if tokenizer else None
    sample_options = _SampleOptions(sample_size, toxicity_model, detect_language, seed)
    profiles = [
        _profile_source(spec, record_kind(kind), count_tokens, near_duplicate_threshold, sample_options)
        for spec in unweighted_sources(sources)
    ]
    if output:
        every = [asdict(one) | {"bad_rows": [asdict(row) for row in one.bad_rows]} for one in profiles]
        write_json(
            Path(output),
            {
                "near_duplicate_threshold": near_duplicate_threshold,
                "tokenizer": tokenizer,
                "seed": seed,
                "sources": every,
            },
        )
    if html:
        write_text(Path(html), render_profile(profiles, tokenizer, near_duplicate_threshold))
    wide_console().print(profile_table(profiles))


@dataclass(frozen=True)
class _SampleOptions:
    size: int
    toxicity_model: str
    detect_language: bool
    seed: int


def _profile_source(
    spec: str,
    kind: type[Record] | None,
    count_tokens: TokenCounter | None,
    near_duplicate_threshold: float,
    sample_options: _SampleOptions,
) -> SourceProfile:
    bad: list[BadRow] = []
    records = list(iter_located_records(spec, kind, bad=bad))
    if not records:
        raise UserError(f"{spec}: no usable rows, expected at least one; see zhenlong data validate {spec}")
    rows = len({place for place, _ in records}) + len(bad)
    return SourceProfile(
        spec,
        rows,
        tuple(bad),
        dataset_stats(records, count_tokens, near_duplicate_threshold),
        _measure_sample(records, sample_options),
    )


def _measure_sample(records: Sequence[tuple[str, Record]], options: _SampleOptions) -> SampleStats:
    record_texts = [record_text(record) for _, record in records]
    texts = [text for one in record_texts for text in one.responses] or [one.prompt for one in record_texts]
    if options.size and options.size < len(texts):
        generator = np.random.Generator(np.random.PCG64(options.seed))
        texts = [texts[place] for place in sorted(generator.permutation(len(texts))[: options.size].tolist())]
    scores = [] if options.toxicity_model == "none" else load_toxicity_scorer(options.toxicity_model)(texts)
    language_counts = (
        Counter(detect_language(text) or UNKNOWN_LANGUAGE for text in texts) if options.detect_language else Counter()
    )
    languages = tuple(
        (name, count / len(texts)) for name, count in sorted(language_counts.items(), key=lambda one: (-one[1], one[0]))
    )
    mean, toxic_fraction = (
        (float(np.mean(scores)), sum(one >= TOXIC_THRESHOLD for one in scores) / len(scores))
        if scores
        else (None, None)
    )
    return SampleStats(len(texts), mean, toxic_fraction, languages)


def _token_counter(name: str) -> TokenCounter:
    tokenizer: Any = load_tokenizer(name)

    def tokens(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]

    return tokens
