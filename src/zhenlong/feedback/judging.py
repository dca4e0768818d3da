"""Pairs of answers before a judge, in both orders, and the rankings that come of its verdicts.

A pair whose orders name different answers is a tie: the judge looked at the place, not at the answer (Zheng et al.
2023, §3.4). One whose verdict cannot be read in either order is left out; both are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.games import Game, judged
from zhenlong.evaluate.outcome import Judge
from zhenlong.feedback.verdicts import Verdict, comparison, verdict
from zhenlong.records import Messages, Ranking


@dataclass(frozen=True)
class Question:
    """A prompt with the different answers to it that are compared, and what to judge by ("": their quality)."""

    prompt: Messages
    answers: tuple[str, ...]
    criterion: str = ""


@dataclass(frozen=True)
class JudgedPair:
    """Two answers of a question, `first` < `second`, and the verdicts with either one shown first; None: unread."""

    first: int
    second: int
    verdicts: tuple[Verdict | None, Verdict | None]
    lengths: tuple[int, int]  # characters of the two answers
    replies: tuple[str, str] = ("", "")

    @property
    def read(self) -> bool:
        """Whether both verdicts could be read."""
        return None not in self.verdicts

    @property
    def winner(self) -> int | None:
        """The answer that both orders call better; None for a tie and where a verdict could not be read."""
        there, back = self.verdicts
        if there is None or back is None or there.first == back.first:
            return None
        return self.first if there.first else self.second

    @property
    def strength(self) -> int | None:
        """How much better the winner is: the mean of both orders, rounded down."""
        there, back = self.verdicts
        return None if self.winner is None or there is None or back is None else (there.strength + back.strength) // 2

    def games(self) -> tuple[Game, Game]:
        """The two orders as games of the first answer against the second, for statistics of the judge."""
        there, back = self.verdicts
        scores = (None if there is None else float(there.first), None if back is None else float(not back.first))
        return (
            Game(True, scores[0], lengths=self.lengths, answer=self.replies[0]),
            Game(False, scores[1], lengths=self.lengths, answer=self.replies[1]),
        )


def judge_pairs(
    judge: Judge, questions: Sequence[Question], *, reasoning: bool = True, max_tokens: int = 512
) -> list[list[JudgedPair]]:
    """For each question every pair of its answers, judged greedily in both orders."""
    places = [
        (number, *pair) for number, one in enumerate(questions) for pair in combinations(range(len(one.answers)), 2)
    ]
    asked = []
    for number, first, second in places:
        one = questions[number]
        for a, b in ((first, second), (second, first)):
            asked.append(
                comparison(one.prompt, one.answers[a], one.answers[b], question=one.criterion, reasoning=reasoning)
            )
    said = [output.text for output in judged(judge, asked, max_tokens=max_tokens)]
    found: list[list[JudgedPair]] = [[] for _ in questions]
    for (number, first, second), there, back in zip(places, said[::2], said[1::2], strict=True):
        lengths = (len(questions[number].answers[first]), len(questions[number].answers[second]))
        found[number].append(JudgedPair(first, second, (verdict(there), verdict(back)), lengths, (there, back)))
    return found


def require_verdicts(name: str, pairs: Sequence[JudgedPair], max_unparsed: float) -> None:
    """Raise `UserError` where more than a share `max_unparsed` of the verdicts cannot be read."""
    said = [(one, reply) for pair in pairs for one, reply in zip(pair.verdicts, pair.replies, strict=True)]
    unread = [reply for one, reply in said if one is None]
    if said and len(unread) > max_unparsed * len(said):
        shown = " ".join(unread[0].split())[-80:]
        raise UserError(
            f"judge {name}: {len(unread)} of {len(said)} verdicts cannot be read, more than max_unparsed "
            f"{max_unparsed:g}; expected [[A1]] to [[B4]] in each reply, got for example {shown!r}; choose a model "
            "that follows the form"
        )


def check_unparsed(max_unparsed: float) -> None:
    """Raise `UserError` for a share that is none."""
    if not 0 <= max_unparsed <= 1:
        raise UserError(f"max_unparsed: expected a share from 0 to 1, got {max_unparsed}")


def ranking_of(question: Question, pairs: Sequence[JudgedPair], annotator: str) -> Ranking | None:
    """The answers ranked by the share of their comparisons that they won, a tie being half a win.

    None where nothing is preferred: all tied, or an answer without a verdict. The strength is the mean with which the
    best won, rounded down, at least 1.
    """
    won, met = [0.0] * len(question.answers), [0] * len(question.answers)
    for pair in pairs:
        if pair.read:
            for place in (pair.first, pair.second):
                met[place] += 1
                won[place] += 0.5 if pair.winner is None else float(pair.winner == place)
    if not all(met):
        return None
    shares = [wins / count for wins, count in zip(won, met, strict=True)]
    if len(set(shares)) < 2:
        return None
    ranks = tuple(1 + sum(other > share for other in set(shares)) for share in shares)
    strengths = [pair.strength for pair in pairs if pair.winner is not None and ranks[pair.winner] == 1]
    mean = sum(one for one in strengths if one) // len(strengths) if strengths else 1
    return Ranking(question.prompt, question.answers, ranks, max(1, mean), annotator)
