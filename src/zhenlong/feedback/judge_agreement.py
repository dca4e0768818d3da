"""How far does a judge agree with people, and what else moves its verdicts: the place, the length?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sklearn.metrics import cohen_kappa_score

from zhenlong.evaluate.judges.pairwise_games import first_position_wins, longer_output_wins, order_consistency
from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.feedback.pairwise_labelling import JudgedPair
from zhenlong.inference.verdicts import unread_verdicts
from zhenlong.records import Ranking


def judge_report(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """What the verdicts say about the judge itself.

    Counts of pairs, verdicts, unread verdicts and ties; then shares with 95 % intervals: `order_consistency` (both
    orders name the same answer), `prefers_first` (the answer shown first wins; 1/2 for a judge without a liking for a
    place), `prefers_longer` (the longer answer wins).
    """
    games = [game for pair in pairs for game in pair.games()]
    consistencies = [value for pair in pairs if (value := order_consistency(*pair.games())) is not None]
    num_unparsed = sum(game.score is None for game in games)
    strengths = [pair.strength for pair in pairs if pair.strength is not None]
    return {
        "pairs": len(pairs),
        "verdicts": len(games),
        "unparsed": num_unparsed,
        "unparsed_rate": num_unparsed / len(games) if games else 0.0,
        "unparsed_reasons": unread_verdicts([pair.unread() for pair in pairs]).get("reasons", {}),
        "unparsed_pairs": sum(not pair.parsed for pair in pairs),
        "ties": sum(pair.parsed and pair.winner is None for pair in pairs),
        "strengths": {str(level): strengths.count(level) for level in sorted(set(strengths))},
        "order_consistency": mean_interval(consistencies).as_json(),
        "prefers_first": mean_interval(first_position_wins(games)).as_json(),
        "prefers_longer": mean_interval(longer_output_wins(games)).as_json(),
    }


def human_agreement(
    human_rankings: Sequence[Ranking], judged_pairs: Sequence[Sequence[JudgedPair]]
) -> dict[str, Any] | None:
    """The judge's verdicts against the rankings that people made of the same answers; None where no pair has both.

    `accuracy` is the share of the decided pairs whose winner people prefer too, `decided` the share of those read that
    are no tie, `kappa` Cohen's over the pairs that were read, with the judge's ties as a class of their own. Accuracy
    is given by the strength that people said and by the judge's; `human_prefers_longer` is for comparison with the
    judge's share.
    """
    agreements: list[float] = []
    by_human_strength: dict[int, list[float]] = defaultdict(list)
    by_judge_strength: dict[int, list[float]] = defaultdict(list)
    labels: list[tuple[int, int]] = []  # people's and the judge's: 1 the first answer, -1 the second, 0 a tie
    human_prefers_longer: list[float] = []
    for ranking, pairs in zip(human_rankings, judged_pairs, strict=True):
        for pair in pairs:
            human_preference = ranking.ranks[pair.second] - ranking.ranks[pair.first]
            if human_preference == 0 or not pair.parsed:
                continue
            judge_preference = 0 if pair.winner is None else 1 if pair.winner == pair.first else -1
            labels.append((1 if human_preference > 0 else -1, judge_preference))
            if pair.lengths[0] != pair.lengths[1]:
                human_prefers_longer.append(float((human_preference > 0) == (pair.lengths[0] > pair.lengths[1])))
            if pair.strength is not None:
                agrees = float((human_preference > 0) == (judge_preference > 0))
                agreements.append(agrees)
                by_judge_strength[pair.strength].append(agrees)
                if ranking.strength is not None:
                    by_human_strength[ranking.strength].append(agrees)
    if not labels:
        return None
    return {
        "accuracy": mean_interval(agreements).as_json(),
        "decided": mean_interval([float(said != 0) for _, said in labels]).as_json(),
        "kappa": pairwise_cohen_kappa(labels),
        "by_human_strength": {
            str(level): mean_interval(by_human_strength[level]).as_json() for level in sorted(by_human_strength)
        },
        "by_judge_strength": {
            str(level): mean_interval(by_judge_strength[level]).as_json() for level in sorted(by_judge_strength)
        },
        "human_prefers_longer": mean_interval(human_prefers_longer).as_json(),
    }


def pairwise_cohen_kappa(labels: Sequence[tuple[int, int]]) -> float:
    """Cohen's (1960) kappa of two annotators of pairs: 1, -1 or 0 for the first answer, the second, or a tie.

    Which answer is called first is arbitrary (in many files it is always the preferred one), so every pair is counted
    both ways round; chance agreement on pairs that both decide is then 1/2.
    """
    both = [*labels, *((-people, -judge) for people, judge in labels)]
    return float(cohen_kappa_score([people for people, _ in both], [judge for _, judge in both]))
