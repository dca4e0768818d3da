"""What is asked of every model: a scenario's instances, their perturbed copies, its examples, its shots."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.ask import Asking, Setting, ask
from zhenlong.evaluate.adapters.examples import examples_for
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.attacks import read_template
from zhenlong.evaluate.attacks.asking import ask_attacked
from zhenlong.evaluate.instance import Instance
from zhenlong.evaluate.metrics.registry import metric
from zhenlong.evaluate.perturbations import CANONICAL, PERTURBATIONS
from zhenlong.evaluate.runner.backend import Backend
from zhenlong.evaluate.runner.suites import Entry
from zhenlong.evaluate.scenarios import Scenario, examples_of, instances_of


@dataclass(frozen=True)
class Asked:
    """How an evaluation puts its scenarios, whichever they are; see `zhenlong.evaluate.runner.evaluate.evaluate`."""

    shots: tuple[int, ...] = ()
    trials: int = 1
    limit: int | None = None
    seed: int = 0
    perturbations: tuple[str, ...] | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # of metrics
    as_chat: bool = False
    max_tokens: int | None = None
    attack_templates: Mapping[str, str] = field(default_factory=dict)  # files, by the attack's name


@dataclass(frozen=True)
class Prepared:
    """A scenario with all that is asked of a model: originals first, then the changed copies."""

    scenario: Scenario
    instances: Sequence[Instance]
    adapters: Sequence[Adapter]  # one for each number of shots
    pool: Sequence[Instance]
    perturbations: tuple[str, ...]
    limit: int | None
    notes: tuple[str, ...] = ()
    attack_template: str = ""  # in place of the package's own

    def settings(self) -> dict[str, Any]:
        """What a later run into the same folder has to ask alike."""
        return {
            "shots": [adapter.shots for adapter in self.adapters],
            "limit": self.limit,
            "perturbations": list(self.perturbations),
            "instances": sum(not one.perturbation for one in self.instances),
            **({"attack_template": self.attack_template} if self.scenario.attack else {}),
        }

    def askings(self, backend: Backend, asked: Asked) -> Iterator[Asking]:
        """One for each number of shots, trial and instance."""
        for adapter in self.adapters:
            for trial in range(asked.trials):
                examples = examples_for(adapter, self.pool, trial)
                as_chat = (asked.as_chat or backend.as_chat) and adapter.method != "chat"
                setting = Setting(adapter, backend, examples, trial, asked.seed, as_chat)
                for instance in self.instances:
                    if self.scenario.attack:
                        yield ask_attacked(setting, instance, self.attack_template)
                    else:
                        yield ask(setting, instance)


def prepare(entry: Entry, asked: Asked) -> Prepared:
    """Read a scenario's data. Raises `UserError` for what cannot be read, and for examples that are missing."""
    scenario = _with_options(entry.scenario, asked.options)
    scenario = replace(
        scenario,
        baseline=asked.baselines.get(scenario.name, scenario.baseline),
        reference_answers=asked.references.get(scenario.name, scenario.reference_answers),
    )
    limit = asked.limit if asked.limit is not None else entry.limit
    data = asked.data.get(scenario.name) or asked.data.get(scenario.base, "")
    originals = instances_of(scenario, data=data, limit=limit, seed=asked.seed)
    file = asked.attack_templates.get(scenario.attack, "")
    template = read_template(scenario.attack, file) if file else ""
    own = asked.examples.get(scenario.name, "")
    shots = asked.shots or entry.shots or (scenario.adapter.shots,)
    notes: list[str] = []
    if not (own or scenario.examples) and any(shots):
        if scenario.adapter.shots:
            raise UserError(
                f"scenario {scenario.name}: it has no examples to choose from; give --examples or --shots 0"
            )
        notes.append(f"{scenario.name}: has no examples, so it is asked without")
        shots = (0,)
    pool = _pool(scenario, own, asked.seed) if any(shots) else []
    if pool and len(pool) < max(shots):
        notes.append(f"{scenario.name}: {len(pool)} examples are all there are, {max(shots)} were asked for")
    names = _perturbations(scenario, asked.perturbations if asked.perturbations is not None else entry.perturbations)
    adapters = [_adapter(scenario.adapter, count, asked.max_tokens) for count in dict.fromkeys(shots)]
    copies = [PERTURBATIONS[name].apply(one) for name in names for one in originals]
    instances = [*originals, *(one for one in copies if one is not None)]
    return Prepared(scenario, instances, adapters, pool, names, limit, tuple(notes), template)


def perturbation_names(text: str) -> tuple[str, ...] | None:
    """`none`, `all`, `canonical` (HELM's), names separated by commas, or "" for what the suite says (None)."""
    if not text:
        return None
    if text == "none":
        return ()
    names = tuple(PERTURBATIONS) if text == "all" else CANONICAL if text == "canonical" else tuple(text.split(","))
    unknown = [name for name in names if name not in PERTURBATIONS]
    if unknown:
        known = ", ".join(PERTURBATIONS)
        raise UserError(
            f"--perturbations: {unknown[0]!r} is not known; expected none, all, canonical or some of {known}"
        )
    return names


def _adapter(adapter: Adapter, shots: int, max_tokens: int | None) -> Adapter:
    changed = replace(adapter, shots=shots)
    return changed if max_tokens is None else replace(changed, max_tokens=min(max_tokens, adapter.max_tokens))


def _perturbations(scenario: Scenario, names: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(name for name in names or () if PERTURBATIONS[name].category in scenario.perturbations)


def _pool(scenario: Scenario, own: str, seed: int) -> list[Instance]:
    try:
        return examples_of(scenario, data=own, seed=seed)
    except UserError as error:
        raise UserError(f"{error}; these are its examples: give them with --examples, or ask with --shots 0") from None


def _with_options(scenario: Scenario, options: Mapping[str, Any]) -> Scenario:
    """The scenario with the options that its metrics have."""
    metrics = []
    for one in scenario.metrics:
        given = dict(one) if isinstance(one, Mapping) else {"name": one}
        taken = inspect.signature(metric(given["name"]).function).parameters
        metrics.append({**given, **{name: value for name, value in options.items() if name in taken}})
    return replace(scenario, metrics=tuple(metrics))
