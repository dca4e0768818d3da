"""From rows to instances: sources, converters, ids."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import chain, islice, zip_longest
from pathlib import Path
from pkgutil import iter_modules
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl

from zhenlong.data.files import RawRow
from zhenlong.data.sources import iter_source_rows
from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.scenarios.joined_files import join_answers, join_sibling_file, rows_of_tables, table_files
from zhenlong.evaluate.scenarios.scenario import Scenario

MAX_CLUSTER_NAME: Final = 40
GENERATED_PREFIX: Final = "generated:"
USER_PROVIDED_PREFIX: Final = (
    "given:"  # marks a source that cannot be downloaded: the user provides it, in the schema named after the prefix
)
BRACES: Final = re.compile(r"\{([^{}]+)\}")
Converter = Callable[..., Sequence[Instance] | Instance]  # (fields, **options) -> instances; empty ids are filled in
Generator = Callable[..., Iterator[Mapping[str, Any]]]  # (n, seed, **options) -> rows

RECORDED_PREFIX: Final = "recorded:"  # marks a source that is the file of outputs itself, which only `score` reads

_CONVERTERS: dict[str, Converter] = {}
_GENERATORS: dict[str, Generator] = {}


def converter(name: str) -> Callable[[Converter], Converter]:
    """Register `f(fields, *, options) -> Instance | [Instance]`, from a row of the upstream schema.

    A missing or wrong field is a `ValueError` naming it; the reader adds file and line. Ids are left empty; if a row
    gives several instances they hold distinct suffixes of the row's own id. `cluster` is what an instance shares with
    those of other rows, such as its passage; instances of one row are a cluster without it.
    """

    def register(function: Converter) -> Converter:
        _CONVERTERS[name] = function
        return function

    return register


def generator(name: str) -> Callable[[Generator], Generator]:
    """Register `f(n, seed, *, options) -> rows` for the source `generated:<name>?n=...&option=...`."""

    def register(function: Generator) -> Generator:
        _GENERATORS[name] = function
        return function

    return register


def load_instances(scenario: Scenario, *, data: str = "", limit: int | None = None, seed: int = 0) -> list[Instance]:
    """The instances of `data`, or of the scenario's own source if `data` is empty; at most `limit`, if it is given.

    These are a random sample, the same in every run and for every model; see `spread_sample`. Raises `UserError` with
    file, line and field for a row that does not match the scenario, and for duplicate ids.
    """
    rows = list(_instances_by_row(scenario, data or scenario.source, seed))
    if limit is not None:
        rows = spread_sample(rows, limit)
    found = list(islice(chain.from_iterable(rows), limit))
    for key, companion in (("baseline", scenario.baseline_outputs), ("reference_answers", scenario.reference_answers)):
        if companion:
            found = join_answers(found, key, companion, scenario.id)
    return found


def load_examples(scenario: Scenario, *, data: str = "", seed: int = 0) -> list[Instance]:
    """The pool of in-context examples, in the order of its file, from which HELM draws too; empty if there is none."""
    source = data or scenario.examples
    readings = scenario.convert_examples or scenario.convert
    if not source:
        return []
    return list(chain.from_iterable(_instances_by_row(replace(scenario, convert=readings), source, seed)))


def spread_sample(rows: Sequence[list[Instance]], limit: int) -> list[list[Instance]]:
    """Rows that hold about `limit` instances, in their order: a systematic sample with a fixed seed.

    The rows are sorted by the groups of their instances (subject, category), in random order within a group, and every
    k-th one is taken from a random start. So each group has its share to within one row, and each row the same chance:
    a mean over the sample estimates that of all rows without bias (Cochran 1977, chapter 8). Instances of one row stay
    together.
    """
    count = sum(map(len, rows))
    if count <= limit:
        return list(rows)
    random = Random(0)
    by_group = sorted(range(len(rows)), key=lambda row: (_groups_of(rows[row]), random.random()))
    wanted = max(1, limit * len(rows) // count)
    start = random.random()
    chosen = {by_group[int((start + number) * len(rows) / wanted)] for number in range(wanted)}
    return [row for number, row in enumerate(rows) if number in chosen]


def _groups_of(instances: Sequence[Instance]) -> list[tuple[str, str]]:
    return sorted((name, str(value)) for name, value in instances[0].groups.items()) if instances else []


def _instances_by_row(scenario: Scenario, source: str, seed: int) -> Iterator[list[Instance]]:
    _import_converters()  # generators too
    seen: set[str] = set()
    for number, row in enumerate(_rows(scenario, source, seed)):
        found = row_instances(scenario, row, number)
        for one in found:
            if one.id in seen:
                raise UserError(f"{row.location}: duplicate id {one.id!r}; expected every id once")
            seen.add(one.id)
        if found:
            yield found
    if not seen:
        raise UserError(f"{source}: no rows, expected some of scenario {scenario.name}")


def row_instances(scenario: Scenario, row: RawRow, number: int) -> list[Instance]:
    """The instances of a row, `number` its place in the data. Raises `UserError` for one that does not fit."""
    _import_converters()
    try:
        if row.problem:
            raise ValueError(row.problem)
        convert, options = _converter_for(scenario, row.fields)
        found = convert(row.fields, **options)
        several = [found] if isinstance(found, Instance) else list(found)
        own = str(number) if scenario.id is None else row_id(scenario.id, row.fields)
        shared = row_id(scenario.cluster, row.fields) if scenario.cluster else f"row {own}" if len(several) > 1 else ""
    except KeyError as error:
        raise UserError(
            f"{row.location}: {error.args[0]}: missing; expected a row of scenario {scenario.name} "
            f"(fields here: {', '.join(row.fields) or 'none'})"
        ) from None
    except ValueError as error:
        raise UserError(f"{row.location}: {' '.join(str(error).split())} (scenario {scenario.name})") from None
    named = [
        replace(one, id=f"{own}-{one.id}" if one.id else own, cluster=_short_cluster(one.cluster or shared))
        for one in several
    ]
    if scenario.keeps_rows:
        named = [replace(one, data={**one.data, "row": dict(row.fields)}) for one in named]
    if scenario.attack:
        named = [replace(one, data={**one.data, "attack": scenario.attack}) for one in named]
    return [one for one in named if all(one.groups.get(name) == value for name, value in scenario.group_filter.items())]


def _short_cluster(shared: str) -> str:
    """The name of a cluster: what its instances share, or the hash of a long text."""
    if len(shared) <= MAX_CLUSTER_NAME:
        return shared
    return hashlib.sha256(shared.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def recorded_instances(scenario: Scenario, rows: Iterable[RawRow]) -> list[Instance]:
    """The instances that recorded outputs hold themselves, each once."""
    found: dict[str, Instance] = {}
    for number, row in enumerate(rows):
        for one in row_instances(scenario, row, number):
            found.setdefault(one.id, one)
    return list(found.values())


def row_id(names: str, fields: Mapping[str, Any]) -> str:
    """The row's id: the first of the fields `a|b` that it has. Raises `KeyError` for a row with none of them."""
    name = next((one for one in names.split("|") if one in fields), names)
    return str(fields[name])


def _converter_for(scenario: Scenario, fields: Mapping[str, Any]) -> tuple[Converter, dict[str, Any]]:
    """The first of the scenario's converters whose `when` field the row has; one without `when` accepts any row."""
    for reading in scenario.convert:
        options = dict(reading)
        if options.pop("when", None) in (None, *fields):
            name = options.pop("using", "")
            if name not in _CONVERTERS:
                known = ", ".join(sorted(_CONVERTERS))
                raise UserError(f"scenario {scenario.name}: converter {name!r} is not known; expected one of {known}")
            accepted = _converter_options(name)
            if unknown := sorted(set(options) - set(accepted)):
                expected = ", ".join(accepted) or "none"
                raise UserError(
                    f"scenario {scenario.name}: convert: {name} has no option {', '.join(unknown)}; expected {expected}"
                )
            return _CONVERTERS[name], options
    expected = " or ".join(str(reading["when"]) for reading in scenario.convert)
    raise ValueError(f"{expected}: missing; the fields here are {', '.join(fields) or 'none'}")


@cache
def _converter_options(name: str) -> tuple[str, ...]:
    return tuple(list(inspect.signature(_CONVERTERS[name]).parameters)[1:])  # without the row


def _rows(scenario: Scenario, source: str, seed: int) -> Iterator[RawRow]:
    """The rows of a source; a list in braces, `hf:owner/name:{a,b}@test`, interleaves subsets and adds `subset`."""
    if source.startswith(RECORDED_PREFIX):
        raise UserError(
            f"scenario {scenario.name}: reads {source.removeprefix(RECORDED_PREFIX).strip()}; score them with "
            f"`zhenlong score {scenario.name} --outputs FILE`"
        )
    if source.startswith(USER_PROVIDED_PREFIX):
        raise UserError(
            f"scenario {scenario.name}: its data cannot be downloaded; provide it with --data, as "
            f"{source.removeprefix(USER_PROVIDED_PREFIX).strip()}"
        )
    braces = (
        BRACES.search(source) if source.startswith(("hf:", GENERATED_PREFIX)) and not Path(source).exists() else None
    )
    if braces is None:
        rows = _source_rows(source, seed)
        yield from (
            join_sibling_file(rows, source, scenario.answers_folder, scenario.id or "id")
            if scenario.answers_folder
            else rows
        )
        return
    names = [name.strip() for name in braces[1].split(",")]
    parts = [_source_rows(f"{source[: braces.start()]}{name}{source[braces.end() :]}", seed) for name in names]
    for turn in zip_longest(*parts):  # interleaved, so that the first rows come from all subsets
        for name, row in zip(names, turn, strict=True):
            if row is not None:
                yield replace(row, fields={"subset": name, **row.fields})


def _source_rows(source: str, seed: int) -> Iterator[RawRow]:
    if not source.startswith(GENERATED_PREFIX):
        tables = table_files(source)
        yield from rows_of_tables(tables) if tables else iter_source_rows(source)
        return
    name, _, query = source.removeprefix(GENERATED_PREFIX).partition("?")
    if name not in _GENERATORS:
        raise UserError(f"{source}: no generator {name!r}; expected one of {', '.join(sorted(_GENERATORS))}")
    options: dict[str, Any] = {key: int(text) if text.isdigit() else text for key, text in parse_qsl(query)}
    accepted = list(inspect.signature(_GENERATORS[name]).parameters)
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise UserError(f"{source}: no option {', '.join(unknown)}; expected {', '.join(accepted)}")
    count, own_seed = options.pop("n", 1000), options.pop("seed", seed)
    for number, fields in enumerate(_GENERATORS[name](count, own_seed, **options)):
        yield RawRow(f"{source}, row {number}", dict(fields))


@cache
def _import_converters() -> None:
    for name in ("converters", "generators"):
        package = import_module(f"zhenlong.evaluate.scenarios.{name}")
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
