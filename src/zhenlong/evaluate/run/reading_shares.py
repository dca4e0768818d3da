"""The share of answers that could not be read, beside every measure, and a line where it is large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.results.reading import ReadingStatus
from zhenlong.evaluate.results.result_files import InstanceRecord

MAX_QUIET_SHARE: Final = 0.05  # a larger share of unread, empty, truncated or failed answers is said on standard error
SHARE_TEXTS: Final = {
    "unread": "could not be read",
    "empty": "are empty",
    "truncated": "were cut off at the token limit",
    "failed": "failed",
}
ANSWER_EXAMPLE_CHARACTERS: Final = 60


def reading_shares(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The shares of answers that are unread, empty or failed, or ended at the token limit; those above 0.

    `truncated` counts every answer that ended at the token limit, also where something was found in it.
    """
    counts = dict.fromkeys(SHARE_TEXTS, 0)
    for one in outcomes:
        reading = one.reading
        status = ReadingStatus.FAILED if one.failed else reading.status if reading else ReadingStatus.READ
        if status.value in counts and status is not ReadingStatus.TRUNCATED:
            counts[status.value] += 1
        counts["truncated"] += bool(reading and reading.at_token_limit)
    return {name: count / len(outcomes) for name, count in counts.items() if count}


def reading_notes(model: str, scenario: str, records: Sequence[InstanceRecord]) -> list[str]:
    """For each number of shots and each kind of answer that is not read, a line if its share is above 5 %."""
    found = []
    for shots in sorted({one.shots for one in records}):
        own = [one for one in records if one.shots == shots]
        for kind, text in SHARE_TEXTS.items():
            several = [one for one in own if _is_of_kind(one, kind)]
            if len(several) > MAX_QUIET_SHARE * len(own):
                found.append(
                    f"{model}, {scenario}, {shots}-shot: {100 * len(several) / len(own):.1f} % of the answers {text} "
                    f"({len(several)} of {len(own)}; id {several[0].id}: {_example(several[0])})"
                )
    return found


def describe_shares(shares: Mapping[str, float]) -> str:
    """The shares in words: `12.5 % unread, 3 % truncated`."""
    return ", ".join(f"{100 * share:.3g} % {name}" for name, share in shares.items())


def _is_of_kind(record: InstanceRecord, kind: str) -> bool:
    if kind == "failed":
        return bool(record.failed)
    if kind == "truncated":
        return bool(record.reading.get("at_token_limit"))
    return not record.failed and record.reading.get("status") == kind


def _example(record: InstanceRecord) -> str:
    if record.failed:
        return record.failed
    text = " ".join((record.outputs[0] if record.outputs else "").split())
    return repr(text if len(text) <= ANSWER_EXAMPLE_CHARACTERS else text[:ANSWER_EXAMPLE_CHARACTERS] + "...")
