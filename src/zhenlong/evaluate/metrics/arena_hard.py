"""Arena-Hard: two games against the baseline per prompt, one in each order, with a five-level verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.judges import arena_hard as rates
from zhenlong.evaluate.judges.pairwise_games import (
    PairwiseGame,
    baseline_outputs_of,
    first_position_wins,
    game_from_json,
    longer_output_wins,
    order_consistency,
    output_lengths,
    query_judge,
    recorded_verdict,
    require_baseline_outputs,
)
from zhenlong.evaluate.judges.prompts import ARENA_CREATIVE, ARENA_HARD, ARENA_USER, JudgePrompt, read_system_prompt
from zhenlong.evaluate.judges.style_control import CONTROLS, measure_style
from zhenlong.evaluate.judges.verdict_parsing import ARENA_LABELS
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, judged_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval
from zhenlong.inference.model_client import Judge
from zhenlong.inference.verdicts import RECORDED_NULL, read_output, unread_record
from zhenlong.verify.judge_parsing import Verdict, read_arena_label

CREATIVE: Final = "creative_writing"  # category whose judge does not first write its own answer
ARENA_HARD_TOKENS: Final = 4096
CONTROLLED: Final = tuple(Measure(f"win_rate_{control}") for control in CONTROLS)


@judged_metric(
    "arena_hard",
    Measure("arena_score"),
    Measure("judge_consistency", higher_is_better=None),
    Measure("judge_unparsed", higher_is_better=False),
)
def arena_hard(
    outcomes: Sequence[Outcome],
    judge: Judge | None,
    *,
    system: str = "",
    creative_system: str = "",
    judge_max_tokens: int = ARENA_HARD_TOKENS,
    temperature: float = 0.0,
) -> list[ScoredOutcome]:
    """The model's mean score in its two games, in per cent; much better (>>) counts three times.

    In the first game the baseline is A, in the second the model. `system` and `creative_system` are files with the
    official system prompts. Recorded: `verdicts`, the two games' labels (null: unparsed), or upstream's `games`.
    """
    answers = [""] * (2 * len(outcomes))
    if judge is None:
        labels = [Verdict(label, RECORDED_NULL) for one in outcomes for label in _recorded_labels(one)]
    else:
        conversations = []
        for one in outcomes:
            prompt = _prompt(one, system, creative_system)
            both = (require_baseline_outputs(one)[0], one.text)
            for a, b in (both, both[::-1]):
                conversations.append(prompt.messages({"question": one.instance.input, "answer_a": a, "answer_b": b}))
        said = query_judge(judge, conversations, max_tokens=judge_max_tokens, temperature=temperature)
        answers = [output.text for output in said]
        labels = [read_output(one, lambda text: read_arena_label(text, tuple(ARENA_LABELS))) for one in said]
    found = []
    for place, one in enumerate(outcomes):
        own, texts = labels[2 * place : 2 * place + 2], answers[2 * place : 2 * place + 2]
        games = [_game(one, own[number].value, model_first=bool(number), answer=texts[number]) for number in (0, 1)]
        found.append(_scored(one, games, judge, unread_record(own, texts)))
    return found


@corpus_metric("arena_hard_v01", Measure("win_rate"), *CONTROLLED)
def arena_hard_v01(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """Win rates by the rules of v0.1, in per cent: Bradley-Terry, and controlled for style, length and Markdown."""
    return _rates(scored, rates.v01_win_rate, rates.v01_style_controlled)


@corpus_metric("arena_hard_v2", Measure("win_rate"), *CONTROLLED)
def arena_hard_v2(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """Win rates by the rules of v2, in per cent with 90 % intervals: mean score, and style-controlled."""
    return _rates(scored, rates.v2_win_rate, rates.v2_style_controlled)


@corpus_metric(
    "judge_preferences",
    Measure("judge_prefers_first", higher_is_better=None),
    Measure("judge_prefers_longer", higher_is_better=None),
)
def judge_preferences(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """The fraction of games with a winner that the response shown first won, and that the longer one won.

    The first measures the judge's position bias (1/2 without bias), the second depends on judge and responses.
    """
    games = [game_from_json(row) for one in scored for row in one.judgement.get("games", ())]
    found = {"judge_prefers_first": first_position_wins(games), "judge_prefers_longer": longer_output_wins(games)}
    return {name: mean_interval(values) for name, values in found.items() if values}


def _rates(
    scored: Sequence[ScoredOutcome],
    plain: Callable[[Sequence[rates.JudgedQuestion]], Interval | None],
    style_controlled: Callable[[Sequence[rates.JudgedQuestion], str], Interval | None],
) -> dict[str, Interval]:
    questions: list[rates.JudgedQuestion] = []
    for one in scored:
        if one.judgement.get("games"):
            baseline = baseline_outputs_of(one.outcome)
            style = (
                (measure_style(one.outcome.text), measure_style(baseline[0]))
                if baseline and one.outcome.outputs
                else None
            )
            questions.append((tuple(game_from_json(row) for row in one.judgement["games"]), style))
    found = {"win_rate": plain(questions)} | {
        f"win_rate_{name}": style_controlled(questions, name) for name in CONTROLS
    }
    return {name: value for name, value in found.items() if value is not None}


def _prompt(outcome: Outcome, system: str, creative: str) -> JudgePrompt:
    if outcome.instance.groups.get("category") == CREATIVE:
        return JudgePrompt(read_system_prompt(creative), ARENA_USER) if creative else ARENA_CREATIVE
    return JudgePrompt(read_system_prompt(system), ARENA_USER) if system else ARENA_HARD


def _game(outcome: Outcome, label: str | None, *, model_first: bool, answer: str) -> PairwiseGame:
    lengths = output_lengths(outcome)
    if label is None:
        return PairwiseGame(model_first, None, lengths=lengths, answer=answer)
    share, weight = ARENA_LABELS[label]
    return PairwiseGame(model_first, share if model_first else 1 - share, label, weight, lengths, answer)


def _scored(
    outcome: Outcome, games: Sequence[PairwiseGame], judge: Judge | None, unread: Mapping[str, Any]
) -> ScoredOutcome:
    read = [(game.score, game.weight) for game in games if game.score is not None]
    scores = {"judge_unparsed": 1 - len(read) / len(games)}
    if read:
        scores["arena_score"] = 100 * sum(share * weight for share, weight in read) / sum(weight for _, weight in read)
    agreed = order_consistency(*games)
    if agreed is not None:
        scores["judge_consistency"] = agreed
    name = judge.name if judge else "recorded"
    return ScoredOutcome(outcome, scores, {"judge": name, "games": [game.as_json() for game in games], **unread})


def _recorded_labels(outcome: Outcome) -> list[str | None]:
    given: Any = recorded_verdict(outcome, "verdicts", "games")
    if isinstance(given, Sequence) and len(given) == 2 and not isinstance(given, str):
        labels = [one.get("score") if isinstance(one, Mapping) else one for one in given]
        if all(label is None or label in ARENA_LABELS for label in labels):
            return labels
    raise UserError(
        f"instance {outcome.instance.id}: verdicts: expected two of {', '.join(ARENA_LABELS)} or null, got {given!r}"
    )
