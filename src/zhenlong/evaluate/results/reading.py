"""How the answer of one outcome was read: what shares, warnings and reports of unread answers are made from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ReadingStatus(str, Enum):
    """The first of these that holds.

    `FAILED`: there is no response (an error, a content filter, a metric that could not score it); it enters no mean.
    `TRUNCATED`: the token limit was reached before an answer was found, for instance within the reasoning trace.
    `EMPTY`: the response holds nothing but white space, or nothing after its reasoning.
    `UNREAD`: there is a response, but none of the scenario's metrics found an answer in it; it counts as wrong.
    `READ`: everything else; a metric that compares whole texts reads every text.
    """

    FAILED = "failed"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    UNREAD = "unread"
    READ = "read"


@dataclass(frozen=True)
class Reading:
    """The status of an outcome's reading, and why it is not `READ`.

    With several samples the status is that of the first one that is not read, and `num_read` of `num_outputs` are.
    `at_token_limit`: whether a response ended at the token limit, also where an answer was found in it.
    """

    status: ReadingStatus
    reason: str = ""
    at_token_limit: bool = False
    num_read: int = 0
    num_outputs: int = 0
