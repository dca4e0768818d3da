"""MT-Bench: every turn rated from 1 to 10, or compared with a baseline's in both orders (lm-sys/FastChat)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.judges.pairwise_games import (
    PairwiseGame,
    order_consistency,
    output_lengths,
    query_judge,
    recorded_verdict,
    require_baseline_outputs,
)
from zhenlong.evaluate.judges.prompts import MT_BENCH, JudgePrompt, read_fastchat_prompts
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, judged_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, ratio_interval
from zhenlong.inference.model_client import Judge
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.inference.verdicts import RECORDED_NULL, read_output, unread_record
from zhenlong.verify.judge_parsing import (
    Verdict,
    parse_rating_fastchat,
    parse_winner_fastchat,
    read_rating,
    read_winner,
)

WITH_REFERENCE: Final = ("math", "reasoning", "coding")
MT_BENCH_TOKENS: Final = 2048
WIN_SHARES: Final = {
    "A": (1.0, 0.0),
    "B": (0.0, 1.0),
    "C": (0.5, 0.5),
    "tie": (0.5, 0.5),
}  # of the first, of the second


@judged_metric(
    "mt_bench", Measure("turn_*"), Measure("fastchat_turn_*"), Measure("judge_unparsed", higher_is_better=False)
)
def mt_bench(
    outcomes: Sequence[Outcome],
    judge: Judge | None,
    *,
    prompts: str = "",
    judge_max_tokens: int = MT_BENCH_TOKENS,
) -> list[ScoredOutcome]:
    """The judge's rating of each turn: `turn_1`, `turn_2`, and the fraction of unparsed ratings.

    The last rating of a reply counts; `fastchat_turn_1` and `fastchat_turn_2` take the first in brackets, as FastChat.
    `prompts` is FastChat's `judge_prompts.jsonl`. Recorded: `scores` (null or -1: unparsed) or `judgments`, the judge's
    texts. Maths, reasoning and coding questions are rated with reference answers.
    """
    wanted = [(place, turn) for place, one in enumerate(outcomes) for turn in _turn_numbers(one)]
    if judge is None:
        found = {(place, turn): _recorded_rating(outcomes[place], turn) for place, turn in wanted}
    else:
        conversations = [
            _prompt("single", prompts, outcomes[place], turn).messages(_single_values(outcomes[place], turn))
            for place, turn in wanted
        ]
        outputs = query_judge(judge, conversations, max_tokens=judge_max_tokens)
        found = {key: _read_rating(output) for key, output in zip(wanted, outputs, strict=True)}
    return [
        _rated(one, [found[place, turn] for turn in _turn_numbers(one)], judge) for place, one in enumerate(outcomes)
    ]


@corpus_metric("mt_bench_score", Measure("mt_bench"), Measure("fastchat_mt_bench"))
def mt_bench_score(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """The mean over all turns without unparsed ratings, by both readings. The interval resamples questions."""
    found = {}
    for name, key in (("mt_bench", "ratings"), ("fastchat_mt_bench", "fastchat_ratings")):
        rated = [[value for value in one.judgement.get(key, ()) if value is not None] for one in scored]
        rated = [one for one in rated if one]
        if rated:
            found[name] = ratio_interval([sum(one) for one in rated], [len(one) for one in rated])
    return found


@judged_metric(
    "mt_bench_pairwise",
    Measure("judge_consistency", higher_is_better=None),
    Measure("judge_unparsed", higher_is_better=False),
)
def mt_bench_pairwise(
    outcomes: Sequence[Outcome],
    judge: Judge | None,
    *,
    prompts: str = "",
    judge_max_tokens: int = MT_BENCH_TOKENS,
) -> list[ScoredOutcome]:
    """Each turn compared with the baseline's in both orders; `mt_bench_win_rate` aggregates the games.

    Recorded: `verdicts`, for each turn the letter (A, B, C or tie; null: unparsed) of the game in which the model is A,
    and of the game in which it is B.
    """
    wanted = [
        (place, turn, first)
        for place, one in enumerate(outcomes)
        for turn in _turn_numbers(one)
        for first in (True, False)
    ]
    if judge is None:
        outputs = [GeneratedOutput("")] * len(wanted)
        verdicts = [_recorded_winner(outcomes[place], turn, first) for place, turn, first in wanted]
        fastchat = [one.value for one in verdicts]
    else:
        conversations = [
            _prompt("pair", prompts, outcomes[place], turn).messages(_pair_values(outcomes[place], turn, first))
            for place, turn, first in wanted
        ]
        outputs = query_judge(judge, conversations, max_tokens=judge_max_tokens)
        verdicts = [read_output(one, read_winner) for one in outputs]
        fastchat = [parse_winner_fastchat(one.text) for one in outputs]
    own: list[list[_TurnGame]] = [[] for _ in outcomes]
    for (place, turn, first), verdict, other, output in zip(wanted, verdicts, fastchat, outputs, strict=True):
        lengths = output_lengths(outcomes[place], turn)
        score = _share(verdict.value, first)
        game = PairwiseGame(first, score, verdict.value, lengths=lengths, answer=output.text, turn=turn)
        own[place].append(_TurnGame(game, verdict, _share(other, first)))
    return [_paired(one, games, judge) for one, games in zip(outcomes, own, strict=True)]


@corpus_metric(
    "mt_bench_win_rate",
    *(
        Measure(f"{reading}{name}", higher_is_better=name != "loss_rate")
        for reading in ("", "fastchat_")
        for name in ("win_rate", "loss_rate", "win_rate_adjusted")
    ),
)
def mt_bench_win_rate(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """Wins, losses, and wins plus half the ties, in per cent of the turns with two parsed verdicts, by both readings.

    A turn is won if both orders agree on it; disagreeing orders are a tie (FastChat, show_result.py).
    """
    found: dict[str, Interval] = {}
    for reading in ("", "fastchat_"):
        turns = [[value for value in one.judgement.get(f"{reading}turns", ()) if value is not None] for one in scored]
        turns = [one for one in turns if one]
        sums = {
            "win_rate": [one.count(1.0) for one in turns],
            "loss_rate": [one.count(0.0) for one in turns],
            "win_rate_adjusted": [sum(one) for one in turns],
        }
        counts = [len(one) for one in turns]
        for name, values in sums.items() if turns else ():
            found[f"{reading}{name}"] = ratio_interval(values, counts, proportion=True).scaled(100)
    return found


@dataclass(frozen=True)
class _Rating:
    """A turn's rating as it is meant and by FastChat's rule, and the judge's reply."""

    verdict: Verdict
    fastchat: float | None
    reply: str = ""


@dataclass(frozen=True)
class _TurnGame:
    """A turn's game with its verdict, and the model's share by FastChat's rule."""

    game: PairwiseGame
    verdict: Verdict
    fastchat: float | None


def _read_rating(output: GeneratedOutput) -> _Rating:
    return _Rating(read_output(output, read_rating), parse_rating_fastchat(output.text), output.text)


def _rated(outcome: Outcome, ratings: Sequence[_Rating], judge: Judge | None) -> ScoredOutcome:
    values, official = [one.verdict.value for one in ratings], [one.fastchat for one in ratings]
    scores = {f"turn_{turn}": value for turn, value in enumerate(values, 1) if value is not None}
    scores |= {f"fastchat_turn_{turn}": value for turn, value in enumerate(official, 1) if value is not None}
    scores["judge_unparsed"] = sum(value is None for value in values) / len(values)
    judgement: dict[str, Any] = {"judge": judge.name if judge else "recorded", "ratings": values}
    judgement |= {"fastchat_ratings": official} | ({"judgments": [one.reply for one in ratings]} if judge else {})
    unread = unread_record([one.verdict for one in ratings], [one.reply for one in ratings])
    return ScoredOutcome(outcome, scores, judgement | unread)


def _share(winner: str | None, model_first: bool) -> float | None:
    """The model's share of a game, by the letter that won."""
    return None if winner is None else WIN_SHARES[winner][not model_first]


def _paired(outcome: Outcome, own: Sequence[_TurnGame], judge: Judge | None) -> ScoredOutcome:
    games = [one.game for one in own]
    pairs = list(zip(games[::2], games[1::2], strict=True))
    scores = {"judge_unparsed": sum(game.score is None for game in games) / len(games)}
    agreed = [value for pair in pairs if (value := order_consistency(*pair)) is not None]
    if agreed:
        scores["judge_consistency"] = sum(agreed) / len(agreed)
    judgement = {
        "judge": judge.name if judge else "recorded",
        "turns": [_turn_result(first.score, second.score) for first, second in pairs],
        "fastchat_turns": [
            _turn_result(one.fastchat, two.fastchat) for one, two in zip(own[::2], own[1::2], strict=True)
        ],
        "games": [game.as_json() for game in games],
    }
    unread = unread_record([one.verdict for one in own], [game.answer for game in games])
    return ScoredOutcome(outcome, scores, judgement | unread)


def _turn_result(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return None
    return first if first == second else 0.5


def _turns(outcome: Outcome) -> tuple[str, ...]:
    """The model's responses by turn; a question with missing later turns is rated on those it has."""
    return (outcome.text, *(outcome.answers[0].turns if outcome.answers else ()))


def _turn_numbers(outcome: Outcome) -> range:
    """The turns that are rated; with recorded verdicts but no responses, all turns of the question."""
    return range(1, 1 + (len(_turns(outcome)) if outcome.outputs else len(_questions(outcome))))


def _questions(outcome: Outcome) -> tuple[str, ...]:
    return (outcome.instance.input, *outcome.instance.turns)


def _prompt(kind: str, file: str, outcome: Outcome, turn: int) -> JudgePrompt:
    known = read_fastchat_prompts(file) if file else MT_BENCH
    maths = "math-v1" if _needs_reference(outcome) else {"single": "v1", "pair": "v2"}[kind]
    name = f"{kind}-{maths}{'-multi-turn' if turn > 1 else ''}"
    if name not in known:
        raise UserError(f"{file}: no prompt {name}; it has {', '.join(known)}")
    return known[name]


def _single_values(outcome: Outcome, turn: int) -> dict[str, str]:
    answers = _turns(outcome)
    if turn == 1:
        return {"question": _questions(outcome)[0], "answer": answers[0], **_references(outcome, turn)}
    return _dialogue(outcome, turn) | {f"answer_{k}": answers[turn - 3 + k] for k in (1, 2)}


def _pair_values(outcome: Outcome, turn: int, model_first: bool) -> dict[str, str]:
    both = [_turns(outcome), require_baseline_outputs(outcome)]
    if len(both[1]) < turn:
        raise UserError(f"instance {outcome.instance.id}: the baseline has no response to turn {turn}")
    shown = dict(zip("ab", both if model_first else both[::-1], strict=True))
    if turn == 1:
        values = {f"answer_{letter}": answers[0] for letter, answers in shown.items()}
        return {"question": _questions(outcome)[0], **_references(outcome, turn), **values}
    values = {f"answer_{letter}_{k}": answers[turn - 3 + k] for letter, answers in shown.items() for k in (1, 2)}
    return _dialogue(outcome, turn) | values


def _dialogue(outcome: Outcome, turn: int) -> dict[str, str]:
    questions = _questions(outcome)
    return {f"question_{k}": questions[turn - 3 + k] for k in (1, 2)} | _references(outcome, turn)


def _references(outcome: Outcome, turn: int) -> dict[str, str]:
    if not _needs_reference(outcome):
        return {}
    given = outcome.instance.data.get("reference_answers", ())
    if len(given) < turn:
        raise UserError(
            f"instance {outcome.instance.id}: no reference answer to turn {turn}, which the judge needs for "
            f"{outcome.instance.groups['category']}; give FastChat's reference_answer/gpt-4.jsonl (reference_answers)"
        )
    first = max(turn - 2, 0)
    return {f"ref_answer_{k}": given[first + k - 1] for k in (1, 2) if first + k <= len(given)}


def _needs_reference(outcome: Outcome) -> bool:
    return outcome.instance.groups.get("category") in WITH_REFERENCE


def _recorded_rating(outcome: Outcome, turn: int) -> _Rating:
    given = recorded_verdict(outcome, "scores", "judgments")
    value = _entry(outcome, given, turn)
    if isinstance(value, str):
        return _read_rating(GeneratedOutput(value))
    if value is None or value == -1:
        return _Rating(Verdict(None, RECORDED_NULL), None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 10:
        raise UserError(f"instance {outcome.instance.id}: scores: expected 1 to 10, null or -1, got {value!r}")
    return _Rating(Verdict(float(value)), float(value))


def _recorded_winner(outcome: Outcome, turn: int, model_first: bool) -> Verdict:
    given = recorded_verdict(outcome, "verdicts")
    pair = _entry(outcome, given, turn)
    if not isinstance(pair, list | tuple) or len(pair) != 2 or any(one not in (*WIN_SHARES, None) for one in pair):
        raise UserError(
            f"instance {outcome.instance.id}: verdicts: expected two of A, B, C or null for each turn, got {pair!r}"
        )
    letter: str | None = pair[not model_first]
    return Verdict(letter, "" if letter else RECORDED_NULL)


def _entry(outcome: Outcome, given: Any, turn: int) -> Any:
    if isinstance(given, Mapping) or not isinstance(given, Sequence) or isinstance(given, str) or len(given) < turn:
        raise UserError(f"instance {outcome.instance.id}: expected a list with an entry for each turn, got {given!r}")
    return given[turn - 1]
