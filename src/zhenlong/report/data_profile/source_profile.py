"""The profile of one data set: its number of rows, its bad rows, and the statistics of the others.

Text statistics cover every record (`zhenlong.data.dataset_stats`); toxicity and language, which take longer, cover a
random sample of responses (prompts if there are no responses).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zhenlong.data.dataset_stats import BatchTokenCounter, DatasetStats, dataset_stats, record_text
from zhenlong.data.reader import BadRow, iter_located_records
from zhenlong.errors import UserError
from zhenlong.records import Record
from zhenlong.rewards.toxicity import load_toxicity_scorer
from zhenlong.verify.instructions.response_level import detect_language

TOXIC_THRESHOLD = 0.5  # texts with at least this score count as toxic
UNKNOWN_LANGUAGE = "unknown"  # the language of a text without letters


@dataclass(frozen=True)
class SampleStats:
    """Measurements on a random sample of `n` texts. `toxicity` is the mean score."""

    n: int
    mean_toxicity: float | None
    toxic_fraction: float | None
    languages: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class SourceProfile:
    """One source: its number of rows, its bad rows, and the statistics of the others."""

    source: str
    rows: int
    bad_rows: tuple[BadRow, ...]
    stats: DatasetStats
    sample_stats: SampleStats


@dataclass(frozen=True)
class SampleOptions:
    """The size of the random sample (0: all texts), and what is measured on it."""

    size: int
    toxicity_classifier: str
    detect_language: bool
    seed: int


def profile_source(
    spec: str,
    kind: type[Record] | None,
    count_tokens: BatchTokenCounter | None,
    near_duplicate_threshold: float,
    sample_options: SampleOptions,
) -> SourceProfile:
    """Read and measure a source. Raises `UserError` if no row can be read."""
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


def _measure_sample(records: Sequence[tuple[str, Record]], options: SampleOptions) -> SampleStats:
    record_texts = [record_text(record) for _, record in records]
    texts = [text for one in record_texts for text in one.responses] or [one.prompt for one in record_texts]
    if options.size and options.size < len(texts):
        generator = np.random.Generator(np.random.PCG64(options.seed))
        texts = [texts[place] for place in sorted(generator.permutation(len(texts))[: options.size].tolist())]
    scores = [] if options.toxicity_classifier == "none" else load_toxicity_scorer(options.toxicity_classifier)(texts)
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
