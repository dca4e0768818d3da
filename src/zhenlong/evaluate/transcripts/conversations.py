"""FastChat's and Arena-Hard's files: a model's answers, and a judge's verdicts on them.

{"question_id", "answer_id", "model_id", "choices": [{"index", "turns": [...]}]}     FastChat, Arena-Hard before 2025
{"uid", "ans_id", "model", "messages": [...]}                                        Arena-Hard
{"question_id", "model", "judge", "score", "turn"}                                   FastChat, grades of single answers
{"question_id", "model_1", "model_2", "g1_winner", "g2_winner", "turn"}              FastChat, pairs in both orders
{"uid" or "question_id", "judge", "model", "games": [...]}                           Arena-Hard
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.data.files import RawRow
from zhenlong.errors import UserError
from zhenlong.evaluate.scenarios.joined_files import row_answers
from zhenlong.evaluate.transcripts.transcript import (
    ReadingContext,
    RowsById,
    Transcript,
    TranscriptFormat,
    TranscriptRow,
    has_fields,
    read_field,
    read_row_id,
    rows_of_model,
)

IDS: Final = ("question_id", "uid", "id")


def read_answers(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """Answers of one model: several `choices` of a question are its trials."""
    name = "model_id" if "model_id" in rows[0].fields else "model"
    own, model = rows_of_model(rows, [name], context)
    found = []
    for row in own:
        choices = row.fields.get("choices") or [None]
        if not isinstance(choices, list):
            raise UserError(f"{row.location}: choices: expected a list with the turns of each answer")
        for number, choice in enumerate(choices):
            one = row.fields if choice is None else {"choices": [choice]}
            try:
                turns = list(row_answers(one))
            except ValueError as error:
                raise UserError(f"{row.location}: {error}") from None
            fields = {"output": turns[0]} if len(turns) == 1 else {"turns": turns}
            trial = number if len(choices) > 1 else None
            found.append(TranscriptRow(row.location, fields, read_row_id(row, IDS), trial=trial))
    return Transcript("answers of FastChat or Arena-Hard", found, model)


def read_grades(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """Grades of one model's answers, one line for each turn: `scores` by turn, -1 where none was read."""
    own, model = rows_of_model(rows, ["model"], context)
    questions = RowsById()
    for row in own:
        questions.add(read_row_id(row, IDS), row)
    found = []
    for id_, lines in questions.found.items():
        by_turn = _by_turn(lines)
        last = max(by_turn)
        scores = [by_turn[turn].fields.get("score") if turn in by_turn else None for turn in range(1, last + 1)]
        found.append(TranscriptRow(lines[0].location, {"scores": scores}, id_))
    return Transcript("a judge's grades in FastChat's format", found, model)


def read_pairs(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """Games of one model in both orders, as `verdicts` by turn; games against several opponents are trials."""
    own, model = rows_of_model(rows, ["model_1", "model_2"], context)
    questions = RowsById()
    opponents: list[str] = []
    for row in own:
        one, other = (str(read_field(row, name, str, "a model's name")) for name in ("model_1", "model_2"))
        opponent = other if one == model else one
        opponents += [] if opponent in opponents else [opponent]
        questions.add((read_row_id(row, IDS), opponent), row)
    found = []
    for (id_, opponent), lines in questions.found.items():
        by_turn = _by_turn(lines)
        missing: list[str | None] = [None, None]
        verdicts = [
            _letters(by_turn[turn], model) if turn in by_turn else missing for turn in range(1, max(by_turn) + 1)
        ]
        trial = opponents.index(opponent) if len(opponents) > 1 else None
        found.append(TranscriptRow(lines[0].location, {"verdicts": verdicts}, id_, trial=trial))
    notes = [f"{model} met {len(opponents)} models, each is a trial"] if len(opponents) > 1 else []
    return Transcript("a judge's verdicts on pairs in FastChat's format", found, model, notes)


def read_games(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """Arena-Hard's two games of each question."""
    own, model = rows_of_model(rows, ["model"], context)
    found = [TranscriptRow(row.location, {"games": row.fields["games"]}, read_row_id(row, IDS)) for row in own]
    return Transcript("a judge's verdicts in Arena-Hard's format", found, model)


def _by_turn(lines: Sequence[RawRow]) -> dict[int, RawRow]:
    found: dict[int, RawRow] = {}
    for row in lines:
        turn = row.fields.get("turn", 1)
        if isinstance(turn, bool) or not isinstance(turn, int) or turn < 1:
            raise UserError(f"{row.location}: turn: expected a number from 1 on, got {turn!r}")
        if turn in found:
            raise UserError(
                f"{row.location}: a second verdict on the same question and turn (first at {found[turn].location}); "
                "expected the verdicts of one judge"
            )
        found[turn] = row
    return found


def _letters(row: RawRow, model: str) -> list[str | None]:
    """The letters of the game in which the model is A, and of the game in which it is B."""
    first = str(row.fields["model_1"]) == model
    winners = [row.fields.get(name) for name in ("g1_winner", "g2_winner")]  # in the first game model_1 is A
    wins = "model_1" if first else "model_2"
    letters: list[str | None] = []
    for is_a, winner in zip((True, False), winners if first else winners[::-1], strict=True):
        if winner == "tie":
            letters.append("C")
        else:
            letters.append({True: "A", False: "B"}[(winner == wins) == is_a] if _is_model(winner) else None)
    return letters


def _is_model(winner: Any) -> bool:
    return winner in ("model_1", "model_2")  # anything else was not read: FastChat writes `error`


def _is_answer(fields: Mapping[str, Any]) -> bool:
    return any(name in fields for name in IDS) and ("choices" in fields or "messages" in fields)


CONVERSATION_FORMATS: Final = (
    TranscriptFormat("FastChat pairs", has_fields("question_id", "g1_winner", "g2_winner"), read_pairs),
    TranscriptFormat("FastChat grades", has_fields("question_id", "model", "judge", "score"), read_grades),
    TranscriptFormat("Arena-Hard games", has_fields("games", "model"), read_games),
    TranscriptFormat(
        "answers", lambda fields: _is_answer(fields) and ("model" in fields or "model_id" in fields), read_answers
    ),
)
