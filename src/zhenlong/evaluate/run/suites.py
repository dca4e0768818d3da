"""Suites: lists of scenarios with how to run them, one YAML file each in the folder `suites`.

name: quick
description: Seconds, without a network.
limit: 100                  # instances of each scenario, unless an entry or the caller says otherwise
perturbations: [mild_mix]
scenarios:
  - world_facts
  - helm_*                  # all whose names fit
  - {name: gsm8k, shots: [0, 5], limit: 50}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.lm_eval import LM_EVAL_PREFIX
from zhenlong.evaluate.scenarios.lm_eval import lm_eval_scenarios
from zhenlong.evaluate.scenarios.scenario import (
    SCENARIO_FILE_ENDINGS,
    Scenario,
    all_scenarios,
    get_scenario,
    read_yaml,
)

ENTRY_KEYS: Final = ("name", "shots", "limit", "perturbations")


@dataclass(frozen=True)
class SuiteEntry:
    """A scenario of an evaluation. None: the scenario's own shots, all instances, no perturbations chosen."""

    scenario: Scenario
    shots: tuple[int, ...] | None = None
    limit: int | None = None
    perturbations: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Suite:
    """A suite as its file declares it; `scenarios` holds names, patterns, and mappings with a name and options."""

    name: str
    scenarios: tuple[Any, ...]
    description: str = ""
    closed: bool = False  # holds only what it lists, and not the scenarios that name it
    limit: int | None = None
    shots: tuple[int, ...] | None = None
    perturbations: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("scenarios", "shots", "perturbations"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))


def select_entries(suite: str, scenarios: Sequence[str]) -> list[SuiteEntry]:
    """What to run: the scenarios of a suite (its own and those that name it), then those named one by one.

    Raises `UserError` with the nearest names for one that is not known.
    """
    found: dict[str, SuiteEntry] = {}
    if suite:
        for one in _suite_entries(_get_suite(suite)):
            found.setdefault(one.scenario.name, one)
    for name in scenarios:
        for known in _matching_scenarios(name):
            found[known.name] = found.get(known.name) or SuiteEntry(known)
    if not found:
        raise UserError(f"--suite or --scenario: expected something to evaluate; suites are {', '.join(all_suites())}")
    return list(found.values())


@cache
def all_suites() -> dict[str, Suite]:
    """All built-in suites by name."""
    found = {}
    for entry in files("zhenlong.evaluate.scenarios.suites").iterdir():
        if entry.name.endswith(".yaml"):
            one = parse_suite(yaml.safe_load(entry.read_text(encoding="utf-8")), entry.name)
            found[one.name] = one
    return dict(sorted(found.items()))


def parse_suite(given: Any, source: str) -> Suite:
    """A suite from the content of its YAML file. Raises `UserError` with the file and the wrong key."""
    if not isinstance(given, Mapping):
        raise UserError(f"{source}: expected a mapping of keys, got {type(given).__name__}")
    known = [item.name for item in fields(Suite)]
    if unknown := sorted(set(given) - set(known)):
        raise UserError(f"{source}: no key {', '.join(map(str, unknown))}; expected some of {', '.join(known)}")
    if not isinstance(given.get("scenarios"), list) or not given["scenarios"]:
        raise UserError(f"{source}: scenarios: expected a list of names, got {given.get('scenarios')!r}")
    for one in given["scenarios"]:
        if not isinstance(one.get("name") if isinstance(one, Mapping) else one, str):
            raise UserError(f"{source}: scenarios: expected names, or mappings with a name, got {one!r}")
        if isinstance(one, Mapping) and (unknown := sorted(set(one) - set(ENTRY_KEYS))):
            raise UserError(f"{source}: scenarios: no key {unknown[0]}; expected some of {', '.join(ENTRY_KEYS)}")
    values: dict[str, Any] = dict(given)
    if isinstance(values.get("shots"), int):
        values["shots"] = [values["shots"]]
    try:
        return Suite(**values)
    except TypeError as error:
        raise UserError(f"{source}: {error}") from None


def _get_suite(name: str) -> Suite:
    if name.endswith(SCENARIO_FILE_ENDINGS):
        return _read_suite(Path(name))
    if name not in all_suites():
        near = get_close_matches(name, all_suites(), 3) or list(all_suites())
        raise UserError(f"suite {name!r} is not known; did you mean {', '.join(near)}?")
    return all_suites()[name]


def _read_suite(path: Path) -> Suite:
    """The suite of a user's file: it holds only what it lists, and paths of scenarios are relative to its folder."""
    given = read_yaml(path, "suite")
    suite = parse_suite({"name": path.stem, **given} if isinstance(given, Mapping) else given, f"suite {path}")
    return replace(suite, closed=True, scenarios=tuple(_beside(path.parent, one) for one in suite.scenarios))


def _beside(folder: Path, given: Any) -> Any:
    if isinstance(given, Mapping):
        return {**given, "name": _beside(folder, given["name"])}
    return str(folder / Path(given).expanduser()) if given.endswith(SCENARIO_FILE_ENDINGS) else given


def _suite_entries(suite: Suite) -> list[SuiteEntry]:
    own = SuiteEntry(scenario="", shots=suite.shots, limit=suite.limit, perturbations=suite.perturbations)  # type: ignore[arg-type]
    found = []
    for given in suite.scenarios:
        options = dict(given) if isinstance(given, Mapping) else {"name": given}
        names = options.pop("name")
        if isinstance(options.get("shots"), int):
            options["shots"] = [options["shots"]]
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
        }
        found += [replace(own, scenario=one, **plain) for one in _matching_scenarios(names)]
    named = [one for one in all_scenarios().values() if suite.name in one.suites and not suite.closed]
    return found + [replace(own, scenario=one) for one in named]


def _matching_scenarios(name: str) -> list[Scenario]:
    if name.startswith(LM_EVAL_PREFIX):
        return lm_eval_scenarios(name)
    if name.endswith(SCENARIO_FILE_ENDINGS) or not any(sign in name for sign in "*?["):
        return [get_scenario(name)]
    found = [one for known, one in all_scenarios().items() if fnmatchcase(known, name)]
    if not found:
        raise UserError(f"scenario {name!r} fits no scenario; `zhenlong scenarios` lists all")
    return found
