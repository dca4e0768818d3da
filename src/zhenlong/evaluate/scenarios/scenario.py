"""A scenario is a YAML file: its data source, the converter of its rows, the adapter and the metrics.

name: gsm8k
title: Grade-school mathematics
suites: [reasoning]
source: hf:openai/gsm8k:main@test
examples: hf:openai/gsm8k:main@train      # pool of in-context examples
num_rows: 1319
id: null                                  # the field that holds a row's id; null: its 0-based number
convert: {using: question_answer, question: question, answer: answer}
adapter: {method: generation, input_prefix: "Question: ", ..., shots: 5}
metrics: [gsm8k]
main: gsm8k
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.metrics.registry import get_metric
from zhenlong.evaluate.metrics.user_metric import USER_METRIC, declare_measures
from zhenlong.evaluate.perturb.code_attack import ATTACK_NAMES

PERTURBATION_KINDS: Final = ("robustness", "fairness")
QUESTION_AND_ANSWER: Final = {"using": "question_answer", "question": "question", "answer": "answer"}
SCENARIO_FILE_ENDINGS: Final = (".yaml", ".yml")
MIN_ATTACK_TOKENS: Final = 512  # minimum max_tokens for an attack, whose response is a program


@dataclass(frozen=True)
class Scenario:
    """One scenario as its YAML file declares it."""

    name: str
    title: str
    source: (
        str  # what `zhenlong.data.sources.iter_source_rows` reads, `generated:<name>?n=...`, or `given:` and the schema
    )
    convert: tuple[Mapping[str, Any], ...]  # {"using": a converter, "when": a field that selects it, its options}
    metrics: tuple[Any, ...]  # names, or {"name": ..., options}
    main: str  # the main measure
    adapter: Adapter = field(default_factory=Adapter)
    description: str = ""
    category: str = ""  # of built-in ones the folder: knowledge, maths, code, ...
    paper: str = ""
    url: str = ""  # the upstream repository or hub page
    license: str = ""
    suites: tuple[str, ...] = ()
    examples: str = ""  # source of the in-context pool
    convert_examples: tuple[Mapping[str, Any], ...] = ()  # converters of the pool, if not those of `convert`
    num_rows: int | None = None  # of the source, upstream
    id: str | None = None  # a field of the rows; `a|b`: the first of them that a row has
    cluster: str | None = None  # a field of the rows (or `a|b`) that instances share which are not independent
    answers_folder: str = ""  # a folder next to a local file of rows, whose file of the same name has more fields
    baseline_outputs: str = ""  # source of the baseline's outputs for a judge, joined by id
    reference_answers: str = ""  # source of the reference answers for a judge, joined by id
    judge: bool = False  # whether a judge (or recorded verdicts) is needed
    perturbations: tuple[str, ...] = PERTURBATION_KINDS  # categories that apply; () if the wording is what is tested
    verified: str = ""  # which parts were checked, and against what
    group_filter: Mapping[str, str] = field(default_factory=dict)  # groups: instances that are in them, and no others
    attacks: Mapping[str, Any] | None = None  # for harmful requests: fields that change under an attack
    attack: str = ""  # the attack applied to the requests
    base_scenario: str = ""  # the scenario of the original requests

    def __post_init__(self) -> None:
        for name in ("convert", "convert_examples"):
            readings = getattr(self, name)
            object.__setattr__(self, name, (readings,) if isinstance(readings, Mapping) else tuple(readings))
        for name in ("metrics", "suites", "perturbations"):
            given = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise UserError(f"{name}: expected a list, got {given!r}")
            object.__setattr__(self, name, tuple(given))
        if unknown := sorted(set(self.perturbations) - set(PERTURBATION_KINDS)):
            raise UserError(f"perturbations: expected some of {', '.join(PERTURBATION_KINDS)}, got {unknown[0]!r}")

    def bind_metrics(self) -> list[tuple[Any, Any]]:
        """Each metric with its function, bound to the options in the YAML."""
        found = []
        for one in self.metrics:
            options = dict(one) if isinstance(one, Mapping) else {"name": one}
            name = options.pop("name")
            known = declare_measures(get_metric(name), options) if USER_METRIC.fullmatch(name) else get_metric(name)
            found.append((known, known.bind(options)))
        return found

    @property
    def keeps_rows(self) -> bool:
        """Whether a metric of the user's own is called with the rows."""
        return any(USER_METRIC.fullmatch(name) for name in self.metric_names)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of its metrics, without their options."""
        return tuple(str(one["name"]) if isinstance(one, Mapping) else str(one) for one in self.metrics)


def get_scenario(name: str) -> Scenario:
    """The built-in scenario of that name, or the scenario in a user's YAML file if `name` is a path.

    Raises `UserError` with the closest names for an unknown name, and with file and key for an invalid file.
    """
    known = all_scenarios()
    if name.endswith(SCENARIO_FILE_ENDINGS):
        return _read_scenario(Path(name))
    if name not in known:
        near = get_close_matches(name, known, 4) or sorted(known)[:4]
        raise UserError(
            f"scenario {name!r} is not known; did you mean {', '.join(near)}? `zhenlong scenarios` lists all"
        )
    return known[name]


def _read_scenario(path: Path) -> Scenario:
    """The scenario of a user's file. Paths in it are relative to its folder, and most keys may be left out."""
    given = read_yaml(path, "scenario")
    if not isinstance(given, Mapping):
        raise UserError(f"scenario {path}: expected a mapping of keys, got {type(given).__name__}")
    filled = {"name": path.stem, "convert": QUESTION_AND_ANSWER, **given}
    filled = {"title": filled["name"], **filled}
    for key in ("source", "examples", "baseline_outputs", "reference_answers"):
        if isinstance(filled.get(key), str) and filled[key]:
            filled[key] = _relative_source(path.parent, filled[key])
    metrics = filled.get("metrics")
    if isinstance(metrics, list):
        filled["metrics"] = [_relative_metric(path, one) for one in metrics]
        if metrics and "main" not in filled:
            filled["main"] = _first_measure(path, filled["metrics"][0])
    found = parse_scenario(filled, f"scenario {path}")
    if found.name in all_scenarios():
        raise UserError(f"scenario {path}: {found.name} is a built-in scenario; expected a name of its own")
    try:
        found.bind_metrics()
    except UserError as error:
        raise UserError(f"scenario {path}: {error}") from None
    return found


def read_yaml(path: Path, kind: str) -> Any:
    """The content of a user's YAML file. Raises `UserError` with the kind and the path for one that cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{kind} {path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{kind} {path}: not valid YAML ({' '.join(str(error).split())})") from None


def _relative_source(folder: Path, source: str) -> str:
    """A path in a YAML file, seen from the working folder; other sources, such as hf:, stay."""
    return source if re.match(r"\w+:", source) else str(folder / Path(source).expanduser())


def _relative_metric(path: Path, metric: Any) -> Any:
    """A metric of a file beside the YAML file, and options that name files there, seen from the working folder."""
    if isinstance(metric, str):
        return str(path.parent / Path(metric).expanduser()) if USER_METRIC.fullmatch(metric) else metric
    if not isinstance(metric, Mapping) or not isinstance(metric.get("name"), str):
        raise UserError(f"scenario {path}: metrics: expected names, or mappings with a name, got {metric!r}")
    beside = {
        key: str(path.parent / value)
        for key, value in metric.items()
        if key != "name" and isinstance(value, str) and value and (path.parent / value).is_file()
    }
    return {**metric, **beside, "name": _relative_metric(path, metric["name"])}


def _first_measure(path: Path, metric: Any) -> str:
    """The measure shown in the table, where the file does not say: the first one of its first metric."""
    name = metric["name"] if isinstance(metric, Mapping) else metric
    if USER_METRIC.fullmatch(name):
        return str(name.rpartition(":")[2])
    try:
        return get_metric(name).measures[0].name
    except UserError as error:
        raise UserError(f"scenario {path}: {error}") from None


@cache
def all_scenarios() -> dict[str, Scenario]:
    """All built-in scenarios by name, from the YAML files in this folder."""
    found: dict[str, Scenario] = {}
    folders = [files("zhenlong.evaluate.scenarios")]
    while folders:
        folder = folders.pop()
        for entry in sorted(folder.iterdir(), key=lambda one: one.name):
            if entry.is_dir() and entry.name != "suites":
                folders.append(entry)
            elif entry.name.endswith(".yaml"):
                given = {"category": folder.name, **yaml.safe_load(entry.read_text(encoding="utf-8"))}
                one = parse_scenario(given, entry.name)
                if one.name in found:
                    raise ValueError(f"{entry.name}: a second scenario is named {one.name}")
                found[one.name] = one
    attacked = [
        with_attack(one, attack) for one in found.values() if one.attacks is not None for attack in ATTACK_NAMES
    ]
    found |= {one.name: one for one in attacked}
    return dict(sorted(found.items()))


def with_attack(one: Scenario, attack: str) -> Scenario:
    """The scenario with an attack applied to its harmful requests; only suites that list it include it."""
    changed: dict[str, Any] = {
        "name": f"{one.name}_{attack}",
        "title": f"{one.title}, attacked by {attack}",
        "adapter": replace(one.adapter, max_tokens=max(MIN_ATTACK_TOKENS, one.adapter.max_tokens)),
        "suites": (),
        "attacks": None,
    }
    return replace(one, **changed | dict(one.attacks or {}), attack=attack, base_scenario=one.name)


def parse_scenario(given: Any, source: str) -> Scenario:
    """A scenario from the content of its YAML file. Raises `UserError` with the file and the wrong key."""
    if not isinstance(given, Mapping):
        raise UserError(f"{source}: expected a mapping of keys, got {type(given).__name__}")
    known = {item.name for item in fields(Scenario)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UserError(f"{source}: no key {', '.join(unknown)}; expected some of {', '.join(sorted(known))}")
    missing = [name for name in ("name", "title", "source", "convert", "metrics", "main") if name not in given]
    if missing:
        raise UserError(f"{source}: {missing[0]} is missing")
    options = dict(given)
    try:
        options["adapter"] = Adapter(**options.get("adapter", {}))
        return Scenario(**options)
    except (TypeError, UserError) as error:
        raise UserError(f"{source}: {error}") from None
