"""The rules of a gate, read from YAML: which measures are protected, and how far they may drop.

defaults: {confidence: 0.95}
rules:
  - {scenario: "*", allowed_drop: 0.01}                             # the main measure of every scenario
  - {scenario: gsm8k, measure: exact_match, allowed_drop: 0.02}     # the last matching rule applies
  - {scenario: "xstest*", measure: "*", require: no_worse, allowed_drop: 5%}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import CATEGORIES
from zhenlong.evaluate.results.result_files import Result

REQUIREMENTS: Final = {
    "no_significant_drop": "fails if the drop is significantly larger than allowed",
    "no_worse": "fails unless the drop is significantly smaller than allowed (non-inferiority)",
}


@dataclass(frozen=True)
class GateRule:
    """The measures that a rule protects (names may contain `*` and `?`), and by how much they may drop."""

    scenario: str = "*"
    measure: str = "main"  # main: the scenario's main measure
    category: str = ""  # one of the seven; "": all, but a measure pattern skips efficiency: timings are noisy
    perturbation: str = ""  # "": unperturbed; "worst_case/robustness"; "*": all
    group: str = ""  # "": all instances; "subject=*": each subject
    shots: int | None = None  # None: any number
    allowed_drop: float = 0.0  # in the measure's unit, in the worse direction
    relative: bool = False  # allowed_drop is a fraction of the baseline's value: written as 5%
    confidence: float = 0.95  # one-sided
    require: str = "no_significant_drop"
    source: str = ""  # file and number of the rule

    @property
    def is_specific(self) -> bool:
        """Whether scenario and measure are plain names, not patterns."""
        return not set("*?[") & set(self.scenario + self.measure)

    def matches(self, result: Result, main: str) -> bool:
        """Whether the rule applies to a result; `main` is the main measure of its scenario."""
        measure = main if self.measure == "main" else self.measure
        quality = result.category != "efficiency" or measure == result.measure
        return (
            fnmatchcase(result.scenario, self.scenario)
            and (result.category == self.category if self.category else quality)
            and fnmatchcase(result.measure, measure)
            and fnmatchcase(result.perturbation, self.perturbation)
            and fnmatchcase(result.group, self.group)
            and self.shots in (None, result.shots)
        )


def read_rules(path: str | Path) -> list[GateRule]:
    """Read the rules of a gate. Raises `UserError` naming the file, the rule and the wrong key."""
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected the rules of a gate") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({error})") from None
    if not isinstance(given, Mapping):
        raise UserError(f"{path}: expected the keys rules and (optionally) defaults; got {type(given).__name__}")
    _require_keys(given, ("rules", "defaults"), str(path))
    rules, defaults = given.get("rules"), given.get("defaults") or {}
    if not isinstance(rules, list) or not rules:
        raise UserError(f"{path}: rules: expected a list of at least one rule, got {rules!r}")
    _rule(defaults, f"{path}, defaults")
    return [_rule(rule, f"{path}, rule {number}", defaults) for number, rule in enumerate(rules, 1)]


def _rule(given: Any, place: str, defaults: Mapping[str, Any] | None = None) -> GateRule:
    if not isinstance(given, Mapping):
        raise UserError(f"{place}: expected a mapping such as {{scenario: gsm8k, allowed_drop: 0.02}}, got {given!r}")
    _require_keys(given, [one.name for one in fields(GateRule) if one.name not in ("source", "relative")], place)
    options = {**(defaults or {}), **given}
    drop = options.get("allowed_drop", 0.0)
    if isinstance(drop, str) and drop.strip().endswith("%"):
        options |= {"allowed_drop": _number(drop.strip()[:-1], f"{place}: allowed_drop") / 100, "relative": True}
    elif "allowed_drop" in options:
        options["allowed_drop"] = _number(drop, f"{place}: allowed_drop")
    for name in ("scenario", "measure", "category", "perturbation", "group"):
        if name in options and not isinstance(options[name], str):
            raise UserError(f"{place}: {name}: expected a name or a pattern, got {options[name]!r}")
    if options.get("category", "") not in ("", *CATEGORIES):
        raise UserError(f"{place}: category: expected one of {', '.join(CATEGORIES)}, got {options['category']!r}")
    shots = options.get("shots")
    if shots is not None and (isinstance(shots, bool) or not isinstance(shots, int) or shots < 0):
        raise UserError(f"{place}: shots: expected a whole number of 0 or more, got {shots!r}")
    if "confidence" in options:
        options["confidence"] = _number(options["confidence"], f"{place}: confidence")
        if not 0.5 < options["confidence"] < 1:
            raise UserError(f"{place}: confidence: expected more than 0.5 and less than 1, got {options['confidence']}")
    if options.get("allowed_drop", 0.0) < 0:
        raise UserError(f"{place}: allowed_drop: expected 0 or more, got {drop!r}")
    if options.get("require", "no_worse") not in REQUIREMENTS:
        raise UserError(f"{place}: require: expected {' or '.join(REQUIREMENTS)}, got {options['require']!r}")
    return GateRule(**options, source=place)


def _require_keys(given: Mapping[str, Any], known: Any, place: str) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{place}: no key {key!r}{meant} Expected some of {', '.join(known)}")


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UserError(f"{place}: expected a number, got {value!r}")
    try:
        found = float(value)
    except ValueError:
        raise UserError(f"{place}: expected a number or a percentage, got {value!r}") from None
    if found != found or abs(found) == float("inf"):
        raise UserError(f"{place}: expected a finite number, got {value!r}")
    return found
