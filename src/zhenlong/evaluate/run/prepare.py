"""What is asked of every model: a scenario's instances, their perturbed copies, its examples, its shots."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.examples import examples_by_group, without_item
from zhenlong.evaluate.adapters.methods import AdapterContext, RequestPlan, plan_requests
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.metrics.registry import get_metric
from zhenlong.evaluate.perturb import PERTURBATIONS
from zhenlong.evaluate.perturb.code_attack import read_template
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.run.options import EvaluationOptions
from zhenlong.evaluate.run.run_plans import ITEM_AMONG_EXAMPLES, guarded_plan, noted_plan, plan_attack_requests
from zhenlong.evaluate.run.suites import SuiteEntry
from zhenlong.evaluate.scenarios import Scenario, load_examples, load_instances
from zhenlong.inference.requests import Backend


@dataclass(frozen=True)
class PreparedScenario:
    """A scenario with all that is asked of a model: originals first, then the changed copies."""

    scenario: Scenario
    instances: Sequence[Instance]
    adapters: Sequence[Adapter]  # one for each number of shots
    example_pool: Sequence[Instance]
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

    def request_plans(self, backend: Backend, options: EvaluationOptions) -> Iterator[RequestPlan]:
        """One for each number of shots, trial and instance; an item is never among its own examples."""
        originals = {one.id: one for one in self.instances if not one.perturbation}
        for adapter in self.adapters:
            for trial in range(options.trials):
                examples = examples_by_group(adapter, self.example_pool, trial)
                as_chat = (options.as_chat or backend.as_chat) and adapter.method != "chat"
                context = AdapterContext(adapter, backend, examples, trial, options.seed, as_chat)
                for instance in self.instances:
                    left = without_item(examples, originals.get(instance.id, instance))
                    own = context if left is examples else replace(context, examples=left)
                    if self.scenario.attack:
                        plan = plan_attack_requests(own, instance, self.attack_template)
                    else:
                        plan = plan_requests(own, instance)
                    plan = guarded_plan(plan, own, instance)
                    yield plan if own is context else noted_plan(plan, ITEM_AMONG_EXAMPLES)


def prepare_scenario(entry: SuiteEntry, options: EvaluationOptions) -> PreparedScenario:
    """Read a scenario's data. Raises `UserError` for what cannot be read, and for examples that are missing."""
    scenario = _with_options(entry.scenario, options.metric_options)
    scenario = replace(
        scenario,
        baseline_outputs=options.files("baseline_outputs").get(scenario.name, scenario.baseline_outputs),
        reference_answers=options.files("reference_answers").get(scenario.name, scenario.reference_answers),
    )
    limit = options.limit if options.limit is not None else entry.limit
    files = options.files("data")
    data = files.get(scenario.name) or files.get(scenario.base_scenario, "")
    originals = load_instances(scenario, data=data, limit=limit, seed=options.seed)
    file = options.files("attack_template").get(scenario.attack, "")
    template = read_template(scenario.attack, file) if file else ""
    examples_source = options.files("examples").get(scenario.name, "")
    shots = options.shot_counts or entry.shots or (scenario.adapter.shots,)
    notes: list[str] = []
    if not (examples_source or scenario.examples) and any(shots):
        if scenario.adapter.shots:
            raise UserError(
                f"scenario {scenario.name}: it has no examples to choose from; give --examples or --shots 0"
            )
        notes.append(f"{scenario.name}: has no examples, so it is asked without")
        shots = (0,)
    pool = _example_pool(scenario, examples_source, options.seed) if any(shots) else []
    if pool and len(pool) < max(shots):
        notes.append(f"{scenario.name}: {len(pool)} examples are all there are, {max(shots)} were asked for")
    asked = options.perturbation_names
    names = _perturbations(scenario, entry.perturbations if asked is None else asked)
    adapters = [_adapter(scenario.adapter, count, options.max_tokens) for count in dict.fromkeys(shots)]
    copies = [PERTURBATIONS[name].apply(one) for name in names for one in originals]
    instances = [*originals, *(one for one in copies if one is not None)]
    return PreparedScenario(scenario, instances, adapters, pool, names, limit, tuple(notes), template)


def _adapter(adapter: Adapter, shots: int, max_tokens: int | None) -> Adapter:
    changed = replace(adapter, shots=shots)
    return changed if max_tokens is None else replace(changed, max_tokens=min(max_tokens, adapter.max_tokens))


def _perturbations(scenario: Scenario, names: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(name for name in names or () if PERTURBATIONS[name].category in scenario.perturbations)


def _example_pool(scenario: Scenario, source: str, seed: int) -> list[Instance]:
    try:
        return load_examples(scenario, data=source, seed=seed)
    except UserError as error:
        raise UserError(f"{error}; these are its examples: give them with --examples, or ask with --shots 0") from None


def _with_options(scenario: Scenario, options: Mapping[str, Any]) -> Scenario:
    """The scenario with the options that its metrics have."""
    metrics = []
    for one in scenario.metrics:
        given = dict(one) if isinstance(one, Mapping) else {"name": one}
        taken = inspect.signature(get_metric(given["name"]).function).parameters
        metrics.append({**given, **{name: value for name, value in options.items() if name in taken}})
    return replace(scenario, metrics=tuple(metrics))
