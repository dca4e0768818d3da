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
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.lm_eval import LM_EVAL_PREFIX
from zhenlong.evaluate.scenarios.lm_eval import lm_eval_scenarios
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios, get_scenario


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
        for known in lm_eval_scenarios(name) if name.startswith(LM_EVAL_PREFIX) else _matching_scenarios(name):
            found[known.name] = found.get(known.name) or SuiteEntry(known)
    if not found:
        raise UserError(f"--suite or --scenario: expected something to evaluate; suites are {', '.join(all_suites())}")
    return list(found.values())


@cache
def all_suites() -> dict[str, Suite]:
    """All suites by name."""
    found = {}
    for entry in files("zhenlong.evaluate.scenarios.suites").iterdir():
        if entry.name.endswith(".yaml"):
            one = Suite(**yaml.safe_load(entry.read_text(encoding="utf-8")))
            found[one.name] = one
    return dict(sorted(found.items()))


def _get_suite(name: str) -> Suite:
    if name not in all_suites():
        near = get_close_matches(name, all_suites(), 3) or list(all_suites())
        raise UserError(f"suite {name!r} is not known; did you mean {', '.join(near)}?")
    return all_suites()[name]


def _suite_entries(suite: Suite) -> list[SuiteEntry]:
    own = SuiteEntry(scenario="", shots=suite.shots, limit=suite.limit, perturbations=suite.perturbations)  # type: ignore[arg-type]
    found = []
    for given in suite.scenarios:
        options = dict(given) if isinstance(given, Mapping) else {"name": given}
        names = options.pop("name")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
        }
        found += [replace(own, scenario=one, **plain) for one in _matching_scenarios(names)]
    named = [one for one in all_scenarios().values() if suite.name in one.suites and not suite.closed]
    return found + [replace(own, scenario=one) for one in named]


def _matching_scenarios(name: str) -> list[Scenario]:
    if not any(sign in name for sign in "*?["):
        return [get_scenario(name)]
    found = [one for known, one in all_scenarios().items() if fnmatchcase(known, name)]
    if not found:
        raise UserError(f"scenario {name!r} fits no scenario; see the names in docs/evaluation")
    return found
