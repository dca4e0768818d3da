"""Pairs of answers before a judge, in both orders, and the rankings that come of its verdicts.

A pair whose orders name different answers is a tie: the judge looked at the place, not at the answer (Zheng et al.
2023, §3.4). One whose verdict cannot be read in either order is left out; both are counted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.pairwise_games import PairwiseGame, query_judge
from zhenlong.feedback.pairwise_judge import PairwiseVerdict, comparison_messages, read_verdict
from zhenlong.inference.model_client import Judge
from zhenlong.inference.verdicts import WARN_ABOVE, read_output, unread_record, unread_summary, unread_verdicts
from zhenlong.records import Messages, Ranking
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.judge_parsing import Verdict


@dataclass(frozen=True)
class ResponseSet:
    """A prompt with the different answers to it that are compared, and what to judge by ("": their quality)."""

    prompt: Messages
    responses: tuple[str, ...]
    criterion: str = ""


@dataclass(frozen=True)
class JudgedPair:
    """Two answers of a question, `first` < `second`, and the verdicts with either one shown first; None: unread."""

    first: int
    second: int
    verdicts: tuple[PairwiseVerdict | None, PairwiseVerdict | None]
    lengths: tuple[int, int]  # characters of the two answers
    replies: tuple[str, str] = ("", "")
    reasons: tuple[str, str] = ("", "")  # why a verdict is None

    @property
    def parsed(self) -> bool:
        """Whether both verdicts could be read."""
        return None not in self.verdicts

    @property
    def winner(self) -> int | None:
        """The answer that both orders call better; None for a tie and where a verdict could not be read."""
        forward, reverse = self.verdicts
        if forward is None or reverse is None or forward.first_is_better == reverse.first_is_better:
            return None
        return self.first if forward.first_is_better else self.second

    @property
    def strength(self) -> int | None:
        """How much better the winner is: the mean of both orders, rounded down."""
        forward, reverse = self.verdicts
        return (
            None
            if self.winner is None or forward is None or reverse is None
            else (forward.strength + reverse.strength) // 2
        )

    def unread(self) -> dict[str, Any]:
        """The record of the verdicts that could not be read."""
        verdicts = [Verdict(one, reason) for one, reason in zip(self.verdicts, self.reasons, strict=True)]
        return unread_record(verdicts, self.replies)

    def games(self) -> tuple[PairwiseGame, PairwiseGame]:
        """The two orders as games of the first answer against the second, for statistics of the judge."""
        forward, reverse = self.verdicts
        scores = (
            None if forward is None else float(forward.first_is_better),
            None if reverse is None else float(not reverse.first_is_better),
        )
        return (
            PairwiseGame(True, scores[0], lengths=self.lengths, answer=self.replies[0]),
            PairwiseGame(False, scores[1], lengths=self.lengths, answer=self.replies[1]),
        )


def judge_pairs(
    judge: Judge, response_sets: Sequence[ResponseSet], *, reasoning: bool = True, max_tokens: int = 512
) -> list[list[JudgedPair]]:
    """For each question every pair of its answers, judged greedily in both orders."""
    pair_indices = [
        (number, *pair)
        for number, one in enumerate(response_sets)
        for pair in combinations(range(len(one.responses)), 2)
    ]
    requests = []
    for number, first, second in pair_indices:
        one = response_sets[number]
        for a, b in ((first, second), (second, first)):
            requests.append(
                comparison_messages(
                    one.prompt, one.responses[a], one.responses[b], criterion=one.criterion, reasoning=reasoning
                )
            )
    outputs = query_judge(judge, requests, max_tokens=max_tokens)
    judged_pairs: list[list[JudgedPair]] = [[] for _ in response_sets]
    for (number, first, second), forward, reverse in zip(pair_indices, outputs[::2], outputs[1::2], strict=True):
        responses = response_sets[number].responses
        lengths = (len(strip_reasoning(responses[first])), len(strip_reasoning(responses[second])))
        shown, swapped = read_output(forward, read_verdict), read_output(reverse, read_verdict)
        judged_pairs[number].append(
            JudgedPair(
                first,
                second,
                (shown.value, swapped.value),
                lengths,
                replies=(forward.text, reverse.text),
                reasons=(shown.reason, swapped.reason),
            )
        )
    return judged_pairs


def require_parsed_verdicts(name: str, pairs: Sequence[JudgedPair], max_unparsed: float) -> None:
    """Raise `UserError` where more than a share `max_unparsed` of the verdicts cannot be read."""
    require_read_verdicts(name, unread_verdicts([one.unread() for one in pairs]), max_unparsed, "[[A1]] to [[B4]]")


def require_read_verdicts(name: str, found: Mapping[str, Any], max_unparsed: float, expected_format: str) -> None:
    """Raise `UserError` for a share above `max_unparsed` in `unread_verdicts`; above 5 %, say so on standard error."""
    if not found or found["share"] <= min(max_unparsed, WARN_ABOVE):
        return
    if found["share"] > max_unparsed:
        raise UserError(
            f"judge {name}: {unread_summary(found)}; that is more than max_unparsed {max_unparsed:g}; expected "
            f"{expected_format} in each reply; choose a model that follows the form, or give it more tokens "
            "(judge_max_tokens)"
        )
    print(f"zhenlong: warning: judge {name}: {unread_summary(found)}", file=sys.stderr, flush=True)


def validate_max_unparsed(max_unparsed: float) -> None:
    """Raise `UserError` for a share that is none."""
    if not 0 <= max_unparsed <= 1:
        raise UserError(f"max_unparsed: expected a share from 0 to 1, got {max_unparsed}")


def ranking_from_pairs(response_set: ResponseSet, pairs: Sequence[JudgedPair], annotator: str) -> Ranking | None:
    """The answers ranked by the share of their comparisons that they won, a tie being half a win.

    None where nothing is preferred: all tied, or an answer without a verdict. The strength is the mean with which the
    best won, rounded down, at least 1.
    """
    num_wins, num_comparisons = [0.0] * len(response_set.responses), [0] * len(response_set.responses)
    for pair in pairs:
        if pair.parsed:
            for place in (pair.first, pair.second):
                num_comparisons[place] += 1
                num_wins[place] += 0.5 if pair.winner is None else float(pair.winner == place)
    if not all(num_comparisons):
        return None
    win_rates = [wins / count for wins, count in zip(num_wins, num_comparisons, strict=True)]
    if len(set(win_rates)) < 2:
        return None
    ranks = tuple(1 + sum(other > share for other in set(win_rates)) for share in win_rates)
    strengths = [pair.strength for pair in pairs if pair.winner is not None and ranks[pair.winner] == 1]
    mean_strength = sum(one for one in strengths if one) // len(strengths) if strengths else 1
    return Ranking(response_set.prompt, response_set.responses, ranks, max(1, mean_strength), annotator)
