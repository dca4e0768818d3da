"""How far does a judge agree with people, and what else moves its verdicts: the place, the length?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sklearn.metrics import cohen_kappa_score

from zhenlong.evaluate.judges.games import consistency, first_position, longer_preferred
from zhenlong.evaluate.statistics import interval
from zhenlong.feedback.judging import JudgedPair
from zhenlong.records import Ranking


def judge_report(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """What the verdicts say about the judge itself.

    Counts of pairs, verdicts, unread verdicts and ties; then shares with 95 % intervals: `order_consistency` (both
    orders name the same answer), `prefers_first` (the answer shown first wins; 1/2 for a judge without a liking for a
    place), `prefers_longer` (the longer answer wins).
    """
    games = [game for pair in pairs for game in pair.games()]
    same = [value for pair in pairs if (value := consistency(*pair.games())) is not None]
    unread = sum(game.score is None for game in games)
    strengths = [pair.strength for pair in pairs if pair.strength is not None]
    return {
        "pairs": len(pairs),
        "verdicts": len(games),
        "unparsed": unread,
        "unparsed_rate": unread / len(games) if games else 0.0,
        "unparsed_pairs": sum(not pair.read for pair in pairs),
        "ties": sum(pair.read and pair.winner is None for pair in pairs),
        "strengths": {str(level): strengths.count(level) for level in sorted(set(strengths))},
        "order_consistency": interval(same).as_json(),
        "prefers_first": interval(first_position(games)).as_json(),
        "prefers_longer": interval(longer_preferred(games)).as_json(),
    }


def agreement(rankings: Sequence[Ranking], judged: Sequence[Sequence[JudgedPair]]) -> dict[str, Any] | None:
    """The judge's verdicts against the rankings that people made of the same answers; None where no pair has both.

    `accuracy` is the share of the decided pairs whose winner people prefer too, `decided` the share of those read that
    are no tie, `kappa` Cohen's over the pairs that were read, with the judge's ties as a class of their own. Accuracy
    is given by the strength that people said and by the judge's; `people_prefer_longer` is for comparison with the
    judge's share.
    """
    right: list[float] = []
    by_people: dict[int, list[float]] = defaultdict(list)
    by_judge: dict[int, list[float]] = defaultdict(list)
    labels: list[tuple[int, int]] = []  # people's and the judge's: 1 the first answer, -1 the second, 0 a tie
    longer: list[float] = []
    for ranking, pairs in zip(rankings, judged, strict=True):
        for pair in pairs:
            people = ranking.ranks[pair.second] - ranking.ranks[pair.first]
            if people == 0 or not pair.read:
                continue
            said = 0 if pair.winner is None else 1 if pair.winner == pair.first else -1
            labels.append((1 if people > 0 else -1, said))
            if pair.lengths[0] != pair.lengths[1]:
                longer.append(float((people > 0) == (pair.lengths[0] > pair.lengths[1])))
            if pair.strength is not None:
                agrees = float((people > 0) == (said > 0))
                right.append(agrees)
                by_judge[pair.strength].append(agrees)
                if ranking.strength is not None:
                    by_people[ranking.strength].append(agrees)
    if not labels:
        return None
    return {
        "accuracy": interval(right).as_json(),
        "decided": interval([float(said != 0) for _, said in labels]).as_json(),
        "kappa": kappa(labels),
        "by_strength": {str(level): interval(by_people[level]).as_json() for level in sorted(by_people)},
        "by_judge_strength": {str(level): interval(by_judge[level]).as_json() for level in sorted(by_judge)},
        "people_prefer_longer": interval(longer).as_json(),
    }


def kappa(labels: Sequence[tuple[int, int]]) -> float:
    """Cohen's (1960) kappa of two annotators of pairs: 1, -1 or 0 for the first answer, the second, or a tie.

    Which answer is called first is arbitrary (in many files it is always the preferred one), so every pair is counted
    both ways round; chance agreement on pairs that both decide is then 1/2.
    """
    both = [*labels, *((-people, -judge) for people, judge in labels)]
    return float(cohen_kappa_score([people for people, _ in both], [judge for _, judge in both]))
