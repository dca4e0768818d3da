"""Scenarios declared in YAML, and their instances."""

from zhenlong.evaluate.scenarios.instances import converter, generator, load_examples, load_instances
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios, get_scenario, parse_scenario

__all__ = [
    "Scenario",
    "all_scenarios",
    "converter",
    "generator",
    "get_scenario",
    "load_examples",
    "load_instances",
    "parse_scenario",
]
