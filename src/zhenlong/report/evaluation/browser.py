"""The instances inside the page: prompts, answers and scores, packed so that tens of thousands stay quick to open.

A scenario is one JSON text, deflated, in base64. Its questions are held once for all models, and a prompt is what it
adds to the model's previous one, for prompts of a scenario share their instructions and examples.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from zhenlong.evaluate.results import Record, instances_path
from zhenlong.loop.atomic import plain
from zhenlong.report.evaluation.folder import Evaluation

RECORDS: Final = 50_000  # in a page
BYTES: Final = 64 << 20  # of the JSON texts in a page, before they are packed
LONG: Final = 60  # characters from which a beginning that all prompts share is passed over within a line
ROW: Final = 200  # bytes of a question or an answer beside its texts, about
OF_QUESTION: Final = ("id", "references", "groups", "perturbation", "shots", "trial", "prompt")
OF_ANSWER: Final = tuple(one.name for one in fields(Record) if one.name not in OF_QUESTION)


@dataclass(frozen=True)
class Chunk:
    """A scenario as the page holds it: its packed instances, how many there are of how many, and its main measure."""

    scenario: str
    packed: str
    shown: int
    questions: int
    main: str

    @property
    def left_out(self) -> int:
        """Instances that are in the folder's files only."""
        return self.questions - self.shown


def shares_of(sizes: Sequence[float], total: float) -> list[float]:
    """`total` shared out so that the small get all they want and the large equal parts of what is left."""
    found = [0.0] * len(sizes)
    left = float(total)
    order = sorted(range(len(sizes)), key=lambda at: sizes[at])
    for done, at in enumerate(order):
        found[at] = min(sizes[at], left / (len(sizes) - done))
        left -= found[at]
    return found


def sizes_of(evaluation: Evaluation) -> list[tuple[int, int]]:
    """Records and bytes of each scenario's files, over all models."""
    found = []
    for scenario in evaluation.scenarios:
        paths = [instances_path(evaluation.folder, model, scenario) for model in evaluation.models]
        there = [path for path in paths if path.is_file()]
        lines = 0
        for path in there:
            with path.open("rb") as file:
                lines += sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
        found.append((lines, sum(path.stat().st_size for path in there)))
    return found


def chunk_of(
    evaluation: Evaluation,
    scenario: str,
    records: Mapping[str, Sequence[Record]],
    most_records: float = RECORDS,
    most_bytes: float = BYTES,
) -> Chunk:
    """The first instances of a scenario, as many as the limits allow; every one with the answers of all models."""
    answers: dict[tuple[str, str, int, int], list[tuple[int, Record]]] = {}
    for at, model in enumerate(evaluation.models):
        for record in records.get(model, ()):
            answers.setdefault(record.key, []).append((at, record))
    packing = _Packing()
    shown = 0
    for several in answers.values():
        if packing.answers and (packing.answers + len(several) > most_records or packing.size >= most_bytes):
            break
        packing.add(several)
        shown += 1
    text = _json(packing.as_json())
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflater.compress(text.encode("ascii")) + deflater.flush()
    return Chunk(scenario, base64.b64encode(packed).decode(), shown, len(answers), evaluation.main_measure(scenario))


def _json(value: Any) -> str:
    """As ASCII, in which halves of surrogate pairs survive; numbers that JSON does not have become null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(plain(value), separators=(",", ":"))


class _Packing:
    """Questions and answers as they are added, and about how many bytes they come to."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.prompts: list[tuple[int, int, str]] = []  # the prompt it begins like, its shared UTF-16 units, the rest
        self.whole: list[str] = []
        self.places: dict[str, int] = {}
        self.last: dict[int, int] = {}  # model -> its previous prompt
        self.size = 0

    @property
    def answers(self) -> int:
        return len(self.rows)

    def add(self, several: Sequence[tuple[int, Record]]) -> None:
        """One question with the answers of some models."""
        first = several[0][1]
        question = {"id": first.id, "references": first.references, "groups": first.groups, "shots": first.shots,
                    "perturbation": first.perturbation, "trial": first.trial}  # fmt: skip
        self.questions.append({key: value for key, value in question.items() if value})
        self.size += ROW + sum(len(str(one.get("text", ""))) for one in first.references)
        for at, record in several:
            row = {"q": len(self.questions) - 1, "m": at, "p": self._prompt(at, record.prompt), **_answer(record)}
            self.rows.append(row)
            self.size += ROW + sum(map(len, record.outputs))

    def as_json(self) -> dict[str, Any]:
        """What the page's script reads. `lead`: by model and shots, how much all prompts begin with."""
        return {"questions": self.questions, "answers": self.rows, "prompts": self.prompts, "leads": self._leads()}

    def _prompt(self, model: int, text: str) -> int:
        """The place of a prompt, which is added where it is new."""
        if text not in self.places:
            base = self.last.get(model, -1)
            shared = _shared(self.whole[base], text) if base >= 0 else 0
            self.places[text] = len(self.whole)
            self.whole.append(text)
            self.prompts.append((base, _units(text[:shared]), text[shared:]))
            self.size += len(text) - shared
        self.last[model] = self.places[text]
        return self.places[text]

    def _leads(self) -> dict[str, int]:
        by_kind: dict[str, set[int]] = {}
        for row in self.rows:
            question = self.questions[row["q"]]
            kind = f"{row['m']}/{question.get('shots', 0)}/{question.get('trial', 0)}"
            by_kind.setdefault(kind, set()).add(row["p"])
        found = {}
        for kind, places in by_kind.items():
            several = [self.whole[place] for place in places]
            first, last = min(several), max(several)  # in the order of texts the two that differ soonest
            lead = first[: _shared(first, last)] if len(several) > 1 else ""
            lead = lead[: lead.rfind("\n") + 1] or (lead[: lead.rfind(" ") + 1] if len(lead) > LONG else "")
            if lead:
                found[kind] = _units(lead)
        return found


def _answer(record: Record) -> dict[str, Any]:
    """What one model did with a question; what is empty is left out."""
    found = {name: getattr(record, name) for name in OF_ANSWER}
    return {name: value for name, value in found.items() if value not in (None, "", (), {})}


def _shared(first: str, second: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[:middle] == second[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _units(text: str) -> int:
    """A text's length as JavaScript counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
