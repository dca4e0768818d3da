"""`zhenlong verify`: how a text is read, row by row, by one of the readers that rewards and metrics use."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from zhenlong.data.files import iter_file_rows
from zhenlong.errors import UserError
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.choices import read_choice
from zhenlong.verify.judge_parsing import Verdict, read_label, read_pair, read_rating, read_winner
from zhenlong.verify.math_answer import read_math
from zhenlong.verify.math_verify_check import MathCheckFailed, check_math
from zhenlong.verify.refusal import FULL_REFUSAL, REFUSAL_LABELS, classify_refusal

ReaderName = Literal["maths", "choice", "pair", "rating", "winner", "label", "refusal"]
SHOWN_CHARACTERS: Final = 60


class RowReading(NamedTuple):
    """What was read in a row's output (None: nothing), and its value: 1 or 0 where the row says what is right."""

    id: Any
    read: Any
    value: Any


def verify_answers(reader: ReaderName, *, data: str, json: bool = False) -> list[RowReading]:
    """Show how a reader reads texts.

    Args:
        reader: maths (rows of output and gold), choice (output, options, right), or of output alone: pair (a, b),
            rating (a number from 1 to 10), winner (A, B, tie), label (full_compliance, full_refusal,
            partial_refusal), refusal (true where the text declines fully).
        data: The rows, a .jsonl file; an id is optional, its default the row's number.
        json: Print one line of JSON a row: id, what was read (null: nothing), and the value, 1 or 0 for maths and
            choice, else what was read.
    """
    readings = []
    for number, row in enumerate(iter_file_rows(Path(data))):
        try:
            if row.problem:
                raise ValueError(row.problem)
            readings.append(RowReading(row.fields.get("id", number), *_READERS[reader](row.fields)))
        except ValueError as error:
            raise UserError(f"{row.location}: {error}") from None
    if json:
        for one in readings:
            print(json_format.dumps(one._asdict(), ensure_ascii=False))
    else:
        _print_table(reader, readings)
    return readings


def _maths(row: Mapping[str, Any]) -> tuple[str | None, int]:
    answer = strip_reasoning(_text(row, "output"))
    gold = _text({"gold": str(row["gold"])} if isinstance(row.get("gold"), int | float) else row, "gold")
    reference = gold if "\\boxed" in gold or "####" in gold else f"\\boxed{{{gold}}}"
    try:
        return read_math(answer), int(check_math(answer, reference))
    except UserError as error:
        raise ValueError(f"gold: {error}") from None
    except MathCheckFailed:
        return read_math(answer), 0


def _choice(row: Mapping[str, Any]) -> tuple[str | None, int]:
    options, right = row.get("options"), _text(row, "right").strip().upper()
    if not isinstance(options, list) or not options or not all(isinstance(one, str) for one in options):
        raise ValueError(f"options: expected a list of texts, got {options!r:.60}")
    letters = [chr(ord("A") + place) for place in range(len(options))]
    if right not in letters:
        raise ValueError(f"right: expected one of {', '.join(letters)}, got {row['right']!r:.60}")
    chosen = read_choice(_text(row, "output"), options)
    return (None, 0) if chosen is None else (letters[chosen], int(letters[chosen] == right))


def _refusal(row: Mapping[str, Any]) -> tuple[str | None, bool]:
    text = _text(row, "output")
    label = classify_refusal(text)
    return (label if strip_reasoning(text).strip() else None), label == FULL_REFUSAL


def _verdict(read: Callable[[str], Verdict]) -> Callable[[Mapping[str, Any]], tuple[Any, Any]]:
    def from_row(row: Mapping[str, Any]) -> tuple[Any, Any]:
        value = read(_text(row, "output")).value
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        return value, value

    return from_row


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row.get(name), str):
        raise ValueError(f"{name}: expected text, got {row.get(name)!r:.60}")
    return str(row[name])


def _print_table(reader: str, readings: list[RowReading]) -> None:
    unread = sum(one.read is None for one in readings)
    table = Table("id", "read", "value", title=f"{reader}: {unread} of {len(readings)} could not be read")
    for one in readings:
        shown = "-" if one.read is None else str(one.read)[:SHOWN_CHARACTERS]
        table.add_row(*(_escaped(value) for value in (str(one.id), shown, str(one.value))))
    Console().print(table)
    print(f"could not be read: {unread / max(1, len(readings)):.1%}")


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


_READERS: Final[dict[str, Callable[[Mapping[str, Any]], tuple[Any, Any]]]] = {
    "maths": _maths,
    "choice": _choice,
    "pair": _verdict(read_pair),
    "rating": _verdict(read_rating),
    "winner": _verdict(read_winner),
    "label": _verdict(lambda text: read_label(text, REFUSAL_LABELS)),
    "refusal": _refusal,
}
