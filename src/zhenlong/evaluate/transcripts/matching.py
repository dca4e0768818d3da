"""Which instance each row of a transcript belongs to, and what is missing, unknown or there more than once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from zhenlong.data.files import RawRow
from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.scenarios.instances import row_instances
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.evaluate.transcripts.transcript import MAX_NAMES_SHOWN, Transcript, TranscriptRow, shorten

ROW_NUMBER: Final = "the 0-based number of its row"


@dataclass(frozen=True)
class MatchedRow:
    """A row with its instance and the number of its trial."""

    row: TranscriptRow
    instance: Instance
    trial: int = 0


@dataclass(frozen=True)
class Matching:
    """The rows that have an instance, the ids that have no row, the rows without an instance, and remarks."""

    rows: Sequence[MatchedRow]
    missing: Sequence[str]
    extra: Sequence[TranscriptRow]
    notes: Sequence[str] = ()


@dataclass
class _Instances:
    """The instances of a scenario by id, by prompt, and by prompt with all references."""

    scenario: Scenario
    by_id: dict[str, Instance]
    by_prompt: dict[str, list[Instance]] = field(default_factory=lambda: defaultdict(list))
    by_content: dict[str, list[Instance]] = field(default_factory=lambda: defaultdict(list))
    taken: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    wrapper: tuple[str, str] | None = None  # what stands before and after the input in a file's prompts

    def __post_init__(self) -> None:
        for one in self.by_id.values():
            self.by_prompt[_normalize(one.input)].append(one)
            self.by_content[_content(one)].append(one)

    def find(self, row: TranscriptRow) -> Instance | None:
        """The instance of a row: by its id, else by the data set's row that it repeats, else by its prompt."""
        if row.id is not None:
            return self.by_id.get(row.id)
        if row.document is not None:
            return self._by_document(row)
        return self._next(self.by_prompt, self._unwrap(_normalize(row.prompt or "")), row.trial)

    def _by_document(self, row: TranscriptRow) -> Instance | None:
        document = dict(row.document or {})
        try:
            several = row_instances(self.scenario, RawRow(row.location, document), 0)
        except UserError:
            several = []
        found = self._next(self.by_content, _content(several[0]), row.trial) if len(several) == 1 else None
        number = str(row.fields.get("doc_id"))
        return found or (self.by_id.get(number) if self.scenario.id is None and not several else None)

    def _next(self, index: Mapping[str, Sequence[Instance]], key: str, trial: int | None) -> Instance | None:
        """The instance with this key; where several have it, they take turns within a trial."""
        several = index.get(key, ())
        if not several:
            return None
        self.taken[key, trial] += 1
        return several[(self.taken[key, trial] - 1) % len(several)]

    def _unwrap(self, prompt: str) -> str:
        """The prompt without the words that a template put around the input; found once, the same for all rows."""
        if prompt in self.by_prompt:
            return prompt
        if self.wrapper is None:
            inside = [one for one in self.by_prompt if one and one in prompt]
            if not inside:
                return prompt
            longest = max(inside, key=len)
            before, _, after = prompt.partition(longest)
            self.wrapper = (before, after)
        before, after = self.wrapper
        return (
            prompt[len(before) : len(prompt) - len(after)]
            if prompt.startswith(before) and prompt.endswith(after)
            else prompt
        )


def match_rows(scenario: Scenario, instances: Sequence[Instance], transcript: Transcript) -> Matching:
    """The rows with their instances and trials.

    Rows of one id are trials where each says its number, or where every id has equally many. Raises `UserError` for
    other repeated ids, with their number.
    """
    known = _Instances(scenario, {one.id: one for one in instances})
    found: dict[str, list[TranscriptRow]] = defaultdict(list)
    extra = []
    for row in transcript.rows:
        instance = known.find(row)
        if instance is None:
            extra.append(row)
        else:
            found[instance.id].append(row)
    notes = list(transcript.notes)
    rows = [
        MatchedRow(row, known.by_id[id_], trial)
        for id_, several in found.items()
        for row, trial in zip(several, _trials(several, found), strict=True)
    ]
    most = max((len(several) for several in found.values()), default=0)
    if most > 1:
        notes.append(f"up to {most} rows of an id: its trials")
    missing = [one.id for one in instances if one.id not in found]
    return Matching(rows, missing, extra, notes)


def unknown_row(scenario: Scenario, instances: Sequence[Instance], matching: Matching, total: int) -> UserError:
    """The error for rows that belong to no instance: what they hold, and what the data have."""
    row = matching.extra[0]
    ids = shorten_ids(one.id for one in instances)
    wanted = scenario.id.replace("|", " or ") if scenario.id else ROW_NUMBER
    count = f"{len(matching.extra)} of {total} rows belong to none; leave such rows out with --allow_extra"
    if row.id is not None:
        return UserError(
            f"{row.location}: unknown id {row.id!r}; {scenario.name} has {len(instances)} ids: {ids} "
            f"(an id is {wanted} in the data); {count}"
        )
    shown = row.prompt if row.prompt is not None else row.document
    return UserError(
        f"{row.location}: no instance of {scenario.name} has the prompt {shorten(shown)}; the first of "
        f"{len(instances)} is {shorten(instances[0].input if instances else '')} "
        f"(or give rows an id: {wanted} in the data); {count}"
    )


def shorten_ids(ids: Iterable[Any]) -> str:
    """The first few ids."""
    several = [str(one) for one in ids]
    return ", ".join(several[:MAX_NAMES_SHOWN]) + (", ..." if len(several) > MAX_NAMES_SHOWN else "")


def _trials(
    several: Sequence[TranscriptRow],
    found: Mapping[str, Sequence[TranscriptRow]],
) -> Sequence[int]:
    """The trial of each row of an instance."""
    said = [row.trial for row in several]
    if all(trial is not None for trial in said) and len(set(said)) == len(said):
        return [trial for trial in said if trial is not None]
    if len(several) == 1:
        return [0]
    counts = {len(rows) for rows in found.values()}
    if len(counts) == 1 and all(trial is None for trial in said) and len(found) > 1:
        return range(len(several))
    repeated = [id_ for id_, rows in found.items() if len(rows) > 1]
    name = several[1].id or _shortest(several[1])
    raise UserError(
        f"{several[1].location}: duplicate id {name!r} (first at {several[0].location}); expected every id once, "
        f"equally many rows of each, or a field trial ({len(repeated)} of {len(found)} ids have several rows)"
    )


def _shortest(row: TranscriptRow) -> str:
    return shorten(row.prompt if row.prompt is not None else row.document)


def _normalize(text: str) -> str:
    return " ".join(text.split())


def _content(instance: Instance) -> str:
    return _normalize("\n".join([instance.input, *instance.turns, *(one.text for one in instance.references)]))
