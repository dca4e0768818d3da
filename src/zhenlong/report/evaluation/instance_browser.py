"""The instances embedded in the page (prompts, outputs, scores), packed so that tens of thousands open fast.

A scenario is one JSON text, deflated, in base64. Its questions are stored once for all models, and a prompt as a delta
to the model's previous one, because the prompts of a scenario share instructions and examples.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from zhenlong.evaluate.results.result_files import InstanceRecord, instances_path
from zhenlong.loop.atomic import to_jsonable
from zhenlong.report.evaluation.evaluation_data import EvaluationData

MAX_RECORDS: Final = 50_000  # records in a page
MAX_BYTES: Final = 64 << 20  # JSON in a page, before compression
MIN_COMMON_PREFIX: Final = 60  # characters; only a longer common prefix may end within a line
ROW_OVERHEAD_BYTES: Final = 200  # approximate size of a question or an answer without its texts
QUESTION_FIELDS: Final = ("id", "references", "groups", "perturbation", "shots", "trial", "prompt")
ANSWER_FIELDS: Final = tuple(one.name for one in fields(InstanceRecord) if one.name not in QUESTION_FIELDS)


@dataclass(frozen=True)
class ScenarioChunk:
    """A scenario in the page: its packed instances, their number, the total number, and its main measure."""

    scenario: str
    packed: str
    shown: int
    questions: int
    main_measure: str

    @property
    def omitted(self) -> int:
        """The number of instances that are only in the folder's files."""
        return self.questions - self.shown


def max_min_fair_shares(sizes: Sequence[float], total: float) -> list[float]:
    """Max-min fair division of `total`: small sizes in full, equal parts of the rest for larger ones."""
    found = [0.0] * len(sizes)
    remaining = float(total)
    order = sorted(range(len(sizes)), key=lambda at: sizes[at])
    for done, at in enumerate(order):
        found[at] = min(sizes[at], remaining / (len(sizes) - done))
        remaining -= found[at]
    return found


def record_and_byte_counts(evaluation: EvaluationData) -> list[tuple[int, int]]:
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


def pack_scenario(
    evaluation: EvaluationData,
    scenario: str,
    records: Mapping[str, Sequence[InstanceRecord]],
    max_records: float = MAX_RECORDS,
    max_bytes: float = MAX_BYTES,
) -> ScenarioChunk:
    """The first instances of a scenario within the limits, each with the outputs of all models."""
    answers: dict[tuple[str, str, int, int], list[tuple[int, InstanceRecord]]] = {}
    for at, model in enumerate(evaluation.models):
        for record in records.get(model, ()):
            answers.setdefault(record.pairing_key, []).append((at, record))
    packer = _ScenarioPacker()
    shown = 0
    for several in answers.values():
        if packer.num_answers and (
            packer.num_answers + len(several) > max_records or packer.approximate_bytes >= max_bytes
        ):
            break
        packer.add(several)
        shown += 1
    text = _json(packer.as_json())
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflater.compress(text.encode("ascii")) + deflater.flush()
    return ScenarioChunk(
        scenario, base64.b64encode(packed).decode(), shown, len(answers), evaluation.main_measure(scenario)
    )


def _json(value: Any) -> str:
    """JSON in ASCII, which preserves lone surrogates; NaN and infinities become null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(to_jsonable(value), separators=(",", ":"))


class _ScenarioPacker:
    """Accumulates questions and answers, with an estimate of their size in bytes."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.answer_rows: list[dict[str, Any]] = []
        self.prompts: list[tuple[int, int, str]] = []  # (base prompt, common prefix in UTF-16 units, rest)
        self.prompt_texts: list[str] = []
        self.prompt_indices: dict[str, int] = {}
        self.last_prompt: dict[int, int] = {}  # model -> its previous prompt
        self.approximate_bytes = 0

    @property
    def num_answers(self) -> int:
        return len(self.answer_rows)

    def add(self, several: Sequence[tuple[int, InstanceRecord]]) -> None:
        """Add one question with the answers of some models."""
        first = several[0][1]
        question = {"id": first.id, "references": first.references, "groups": first.groups, "shots": first.shots,
                    "perturbation": first.perturbation, "trial": first.trial}  # fmt: skip
        self.questions.append({key: value for key, value in question.items() if value})
        self.approximate_bytes += ROW_OVERHEAD_BYTES + sum(len(str(one.get("text", ""))) for one in first.references)
        for at, record in several:
            row = {
                "q": len(self.questions) - 1,
                "m": at,
                "p": self._add_prompt(at, record.prompt),
                **_answer_fields(record),
            }
            self.answer_rows.append(row)
            self.approximate_bytes += ROW_OVERHEAD_BYTES + sum(map(len, record.outputs))

    def as_json(self) -> dict[str, Any]:
        """The data for the page's script. `leads`: length of the common prefix of all prompts by model and shots."""
        return {
            "questions": self.questions,
            "answers": self.answer_rows,
            "prompts": self.prompts,
            "leads": self._common_prefix_lengths(),
        }

    def _add_prompt(self, model: int, text: str) -> int:
        """The index of a prompt, which is added if it is new."""
        if text not in self.prompt_indices:
            base = self.last_prompt.get(model, -1)
            shared = _common_prefix_length(self.prompt_texts[base], text) if base >= 0 else 0
            self.prompt_indices[text] = len(self.prompt_texts)
            self.prompt_texts.append(text)
            self.prompts.append((base, _utf16_length(text[:shared]), text[shared:]))
            self.approximate_bytes += len(text) - shared
        self.last_prompt[model] = self.prompt_indices[text]
        return self.prompt_indices[text]

    def _common_prefix_lengths(self) -> dict[str, int]:
        by_kind: dict[str, set[int]] = {}
        for row in self.answer_rows:
            question = self.questions[row["q"]]
            kind = f"{row['m']}/{question.get('shots', 0)}/{question.get('trial', 0)}"
            by_kind.setdefault(kind, set()).add(row["p"])
        found = {}
        for kind, places in by_kind.items():
            several = [self.prompt_texts[place] for place in places]
            first, last = min(several), max(several)  # lexicographic extremes: their common prefix is that of all
            lead = first[: _common_prefix_length(first, last)] if len(several) > 1 else ""
            lead = lead[: lead.rfind("\n") + 1] or (
                lead[: lead.rfind(" ") + 1] if len(lead) > MIN_COMMON_PREFIX else ""
            )
            if lead:
                found[kind] = _utf16_length(lead)
        return found


def _answer_fields(record: InstanceRecord) -> dict[str, Any]:
    """The non-empty fields of one model's answer to a question."""
    found = {name: getattr(record, name) for name in ANSWER_FIELDS}
    return {name: value for name, value in found.items() if value not in (None, "", (), {})}


def _common_prefix_length(first: str, second: str) -> int:
    """The length of the common prefix of two texts."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[:middle] == second[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _utf16_length(text: str) -> int:
    """The length of a text in UTF-16 code units, as JavaScript counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
