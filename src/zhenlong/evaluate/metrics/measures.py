"""What a metric is: its name and kind, the measures that it gives, and its function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance

CATEGORIES: Final = ("accuracy", "calibration", "robustness", "fairness", "bias", "toxicity", "efficiency")
FindsAnswer = Callable[..., bool]  # (answer's text, instance, **options that it takes) -> whether there is one


@dataclass(frozen=True)
class Measure:
    """One measure of a metric: its category (one of seven), and whether higher is better (None: no direction)."""

    name: str  # may end in `*`: all measures with this prefix
    category: str = "accuracy"
    higher_is_better: bool | None = True


@dataclass(frozen=True)
class Metric:
    """A registered metric."""

    name: str
    kind: str  # instance, corpus or judged
    measures: tuple[Measure, ...]
    function: Callable[..., Any]
    of_groups: bool = True  # corpus metrics: also computed per group of instances
    over_trials: bool = False  # corpus metrics: of all trials together, not of each
    finds: FindsAnswer | None = None  # instance metrics that read an answer out of a text: whether they find one

    def bind(self, options: Mapping[str, Any]) -> Callable[..., Any]:
        """The function with the options from YAML bound. Raises `UserError` for an unknown option."""
        accepted = [
            name
            for name, given in inspect.signature(self.function).parameters.items()
            if given.kind is given.KEYWORD_ONLY
        ]
        unknown = sorted(set(options) - set(accepted))
        if unknown:
            expected = ", ".join(accepted) or "none"
            raise UserError(f"metric {self.name}: no option {', '.join(unknown)}; expected {expected}")
        return partial(self.function, **options)

    def finds_answer(self, function: Any, text: str, instance: Instance) -> bool:
        """Whether an answer's text holds what the metric looks for; `function` is the bound one, for its options."""
        if self.finds is None:
            return True
        taken = inspect.signature(self.finds).parameters
        return self.finds(text, instance, **{name: v for name, v in function.keywords.items() if name in taken})

    def find_measure(self, name: str) -> Measure:
        """The declaration of one of its measures."""
        for one in self.measures:
            if one.name == name or (one.name.endswith("*") and name.startswith(one.name[:-1])):
                return one
        raise KeyError(f"metric {self.name} returned {name}, which it did not declare")
