"""MT-Bench: every turn rated from 1 to 10, or compared with a baseline's in both orders (lm-sys/FastChat)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from zhenlong.evaluate.judges.verdict_parsing import parse_rating, parse_winner
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, judged_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, ratio_interval
from zhenlong.inference.model_client import Judge

WITH_REFERENCE: Final = ("math", "reasoning", "coding")
TOKENS: Final = 2048
WIN_SHARES: Final = {
    "A": (1.0, 0.0),
    "B": (0.0, 1.0),
    "C": (0.5, 0.5),
    "tie": (0.5, 0.5),
}  # of the first, of the second


@judged_metric("mt_bench", Measure("turn_*"), Measure("judge_unparsed", higher_is_better=False))
def mt_bench(outcomes: Sequence[Outcome], judge: Judge | None, *, prompts: str = "") -> list[ScoredOutcome]:
    """The judge's rating of each turn: `turn_1`, `turn_2`, and the fraction of unparsed ratings.

    `prompts` is FastChat's `judge_prompts.jsonl`. Recorded: `scores` (null or -1: unparsed) or `judgments`, the judge's
    texts. Maths, reasoning and coding questions are rated with reference answers.
    """
    wanted = [(place, turn) for place, one in enumerate(outcomes) for turn in _turn_numbers(one)]
    said: dict[tuple[int, int], str] = {}
    if judge is None:
        values = {(place, turn): _recorded_rating(outcomes[place], turn) for place, turn in wanted}
    else:
        conversations = [
            _prompt("single", prompts, outcomes[place], turn).messages(_single_values(outcomes[place], turn))
            for place, turn in wanted
        ]
        texts = [output.text for output in query_judge(judge, conversations, max_tokens=TOKENS)]
        said = dict(zip(wanted, texts, strict=True))
        values = {key: parse_rating(text) for key, text in said.items()}
    found = []
    for place, one in enumerate(outcomes):
        own = {turn: values[place, turn] for turn in _turn_numbers(one)}
        scores = {f"turn_{turn}": value for turn, value in own.items() if value is not None}
        scores["judge_unparsed"] = sum(value is None for value in own.values()) / len(own)
        judgement: dict[str, Any] = {"judge": judge.name if judge else "recorded", "ratings": list(own.values())}
        if judge is not None:
            judgement["judgments"] = [said[place, turn] for turn in own]
        found.append(ScoredOutcome(one, scores, judgement))
    return found


@corpus_metric("mt_bench_score", Measure("mt_bench"))
def mt_bench_score(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """The mean over all turns without unparsed ratings. The interval resamples questions."""
    rated = [[value for value in one.judgement.get("ratings", ()) if value is not None] for one in scored]
    rated = [one for one in rated if one]
    return {"mt_bench": ratio_interval([sum(one) for one in rated], [len(one) for one in rated])} if rated else {}


@judged_metric(
    "mt_bench_pairwise",
    Measure("judge_consistency", higher_is_better=None),
    Measure("judge_unparsed", higher_is_better=False),
)
def mt_bench_pairwise(outcomes: Sequence[Outcome], judge: Judge | None, *, prompts: str = "") -> list[ScoredOutcome]:
    """Each turn compared with the baseline's in both orders; `mt_bench_win_rate` aggregates the games.

    Recorded: `verdicts`, for each turn the letter (A, B, C for a tie; null: unparsed) of the game in which the model is
    A, and of the game in which it is B.
    """
    wanted = [
        (place, turn, first)
        for place, one in enumerate(outcomes)
        for turn in _turn_numbers(one)
        for first in (True, False)
    ]
    said: dict[tuple[int, int, bool], str] = {}
    if judge is None:
        letters = {key: _recorded_letter(outcomes[key[0]], key[1], key[2]) for key in wanted}
    else:
        conversations = [
            _prompt("pair", prompts, outcomes[place], turn).messages(_pair_values(outcomes[place], turn, first))
            for place, turn, first in wanted
        ]
        texts = [output.text for output in query_judge(judge, conversations, max_tokens=TOKENS)]
        said = dict(zip(wanted, texts, strict=True))
        letters = {key: parse_winner(text) for key, text in said.items()}
    games: list[list[PairwiseGame]] = [[] for _ in outcomes]
    for key in wanted:
        place, turn, first = key
        letter = letters[key]
        score = None if letter is None else WIN_SHARES[letter][not first]
        lengths = output_lengths(outcomes[place], turn)
        games[place].append(PairwiseGame(first, score, letter, lengths=lengths, answer=said.get(key, ""), turn=turn))
    return [_paired(one, own, judge) for one, own in zip(outcomes, games, strict=True)]


@corpus_metric(
    "mt_bench_win_rate",
    Measure("win_rate"),
    Measure("loss_rate", higher_is_better=False),
    Measure("win_rate_adjusted"),
)
def mt_bench_win_rate(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """Wins, losses, and wins plus half the ties, in per cent of the turns with two parsed verdicts.

    A turn is won if both orders agree on it; disagreeing orders are a tie (FastChat, show_result.py).
    """
    turns = [[value for value in one.judgement.get("turns", ()) if value is not None] for one in scored]
    turns = [one for one in turns if one]
    if not turns:
        return {}
    counts = [len(one) for one in turns]
    sums = {
        "win_rate": [100.0 * one.count(1.0) for one in turns],
        "loss_rate": [100.0 * one.count(0.0) for one in turns],
        "win_rate_adjusted": [100.0 * sum(one) for one in turns],
    }
    return {name: ratio_interval(values, counts) for name, values in sums.items()}


def _paired(outcome: Outcome, games: Sequence[PairwiseGame], judge: Judge | None) -> ScoredOutcome:
    pairs = list(zip(games[::2], games[1::2], strict=True))
    turns = [_turn_result(*pair) for pair in pairs]
    scores = {"judge_unparsed": sum(game.score is None for game in games) / len(games)}
    agreed = [value for pair in pairs if (value := order_consistency(*pair)) is not None]
    if agreed:
        scores["judge_consistency"] = sum(agreed) / len(agreed)
    name = judge.name if judge else "recorded"
    return ScoredOutcome(outcome, scores, {"judge": name, "turns": turns, "games": [game.as_json() for game in games]})


def _turn_result(first: PairwiseGame, second: PairwiseGame) -> float | None:
    if first.score is None or second.score is None:
        return None
    return first.score if first.score == second.score else 0.5


def _turns(outcome: Outcome) -> tuple[str, ...]:
    """The model's responses by turn; a question with missing later turns is rated on those it has."""
    return (outcome.text, *(outcome.outputs[0].turns if outcome.outputs else ()))


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


def _recorded_rating(outcome: Outcome, turn: int) -> float | None:
    given = recorded_verdict(outcome, "scores", "judgments")
    value = _entry(outcome, given, turn)
    if isinstance(value, str):
        return parse_rating(value)
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 10:
        raise UserError(f"instance {outcome.instance.id}: scores: expected 1 to 10, null or -1, got {value!r}")
    return float(value)


def _recorded_letter(outcome: Outcome, turn: int, model_first: bool) -> str | None:
    given = recorded_verdict(outcome, "verdicts")
    pair = _entry(outcome, given, turn)
    if not isinstance(pair, list | tuple) or len(pair) != 2 or any(one not in (*WIN_SHARES, None) for one in pair):
        raise UserError(
            f"instance {outcome.instance.id}: verdicts: expected two of A, B, C or null for each turn, got {pair!r}"
        )
    letter: str | None = pair[not model_first]
    return letter


def _entry(outcome: Outcome, given: Any, turn: int) -> Any:
    if isinstance(given, Mapping) or not isinstance(given, Sequence) or isinstance(given, str) or len(given) < turn:
        raise UserError(f"instance {outcome.instance.id}: expected a list with an entry for each turn, got {given!r}")
    return given[turn - 1]
