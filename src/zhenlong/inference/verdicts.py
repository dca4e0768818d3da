"""Verdicts from a judge's outputs, and the count of those that could not be read, by reason and with an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.inference.requests import GeneratedOutput
from zhenlong.verify.judge_parsing import Verdict, VerdictReader

REPLY_CHARACTERS: Final = 160  # of an unread reply that are shown, from its end
WARN_ABOVE: Final = 0.05  # share of unread verdicts above which a run says so
RECORDED_NULL: Final = "recorded without a verdict"
TRUNCATED: Final = "cut off at the token limit"
NO_REPLY: Final = "no reply (the request failed or did not fit)"


def read_output(output: GeneratedOutput, reader: VerdictReader) -> Verdict:
    """What a reader finds in a judge's output. A reply that the token limit cut off says so where nothing is found."""
    verdict = reader(output.text)
    if verdict.value is None and output.truncated:
        return Verdict(None, TRUNCATED)
    return Verdict(None, NO_REPLY) if verdict.value is None and not output.text else verdict


def unread_record(verdicts: Sequence[Verdict], replies: Sequence[str]) -> dict[str, Any]:
    """The verdicts that could not be read, for a judgement's record: the reason and the end of each reply."""
    unread = [
        {"reason": verdict.reason, "reply": " ".join(reply.split())[-REPLY_CHARACTERS:]}
        for verdict, reply in zip(verdicts, replies, strict=True)
        if verdict.value is None
    ]
    return {"num_verdicts": len(verdicts)} | ({"unread": unread} if unread else {})


def unread_verdicts(judgements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over many records: `verdicts`, `unread`, `share`, and of each reason the count and an example; {} for none."""
    total = sum(int(one.get("num_verdicts", 0)) for one in judgements)
    unread = [each for one in judgements for each in one.get("unread", ())]
    if not total:
        return {}
    counts = Counter(str(one["reason"]) for one in unread)
    examples = {str(one["reason"]): str(one["reply"]) for one in reversed(unread)}
    reasons = {reason: {"count": count, "example": examples[reason]} for reason, count in counts.most_common()}
    return {"verdicts": total, "unread": len(unread), "share": len(unread) / total, "reasons": reasons}


def unread_notes(model: str, scenario: str, found: Mapping[str, Any]) -> list[str]:
    """A line for a run whose share of unread verdicts is above 5 %."""
    return [f"{model}, {scenario}: {unread_summary(found)}"] if found and found["share"] > WARN_ABOVE else []


def unread_summary(found: Mapping[str, Any]) -> str:
    """One line of `unread_verdicts`: how many, why, and an example of the most frequent reason."""
    reasons = "; ".join(f"{reason} {one['count']}" for reason, one in found["reasons"].items())
    example = next(iter(found["reasons"].values()))["example"]
    return f"{found['unread']} of {found['verdicts']} verdicts cannot be read ({reasons}), for example {example!r}"
