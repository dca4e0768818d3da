"""`zhenlong data profile`: statistics of data sets, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhenlong.data.commands import record_kind
from zhenlong.data.dataset_stats import BatchTokenCounter
from zhenlong.data.duplicates import NEAR_DUPLICATE_THRESHOLD
from zhenlong.data.mixture_spec import unweighted_sources
from zhenlong.errors import UserError
from zhenlong.evaluate.run.console import wide_console
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.models import load_tokenizer
from zhenlong.report.data_profile.page import render_profile
from zhenlong.report.data_profile.source_profile import SampleOptions, SourceProfile, profile_source
from zhenlong.report.data_profile.table import profile_table
from zhenlong.rewards.toxicity import LEXICON


def profile(
    sources: str,
    *,
    kind: str = "",
    tokenizer: str = "",
    near_duplicate_threshold: float = NEAR_DUPLICATE_THRESHOLD,
    sample_size: int = 1000,
    toxicity_classifier: str = LEXICON,
    detect_language: bool = True,
    seed: int = 0,
    output: str = "",
    html: str = "",
) -> list[SourceProfile]:
    """Show statistics of data sets: rows, turns, lengths, format, words, duplicates, toxicity, language, preferences.

    Args:
        sources: Files, hf:owner/name or world:<kind>, separated by commas; shown side by side.
        kind: Record type: document, demonstration, ranking, rating or task; empty: the default of each format.
        tokenizer: Model or folder of the tokenizer that counts tokens; empty: count characters only.
        near_duplicate_threshold: Minimum Jaccard similarity of word trigrams of near duplicates.
        sample_size: Number of random texts per source for toxicity and language; 0: all.
        toxicity_classifier: A classifier's folder or hub id, FOLDER:LABEL, lexicon (finds about half), or none.
        detect_language: Detect the language of each text.
        seed: Seed of the sample.
        output: JSON file for all statistics.
        html: Self-contained HTML page to write.

    Rows that cannot be read are counted and left out; `zhenlong data validate` lists them. See docs/data.md.
    """
    if not 0 < near_duplicate_threshold <= 1 or sample_size < 0:
        raise UserError(
            "data profile: expected near_duplicate_threshold in (0, 1] and sample_size of 0 or more, "
            f"got {near_duplicate_threshold} and {sample_size}"
        )
    count_tokens = _token_counter(tokenizer) if tokenizer else None
    sample_options = SampleOptions(sample_size, toxicity_classifier, detect_language, seed)
    profiles = [
        profile_source(spec, record_kind(kind), count_tokens, near_duplicate_threshold, sample_options)
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
    return profiles


def _token_counter(name: str) -> BatchTokenCounter:
    tokenizer: Any = load_tokenizer(name)

    def tokens(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]

    return tokens
