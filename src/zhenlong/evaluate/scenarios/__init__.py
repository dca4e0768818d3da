"""What is asked? Scenarios declared in YAML, and the instances that their rows become."""

from zhenlong.evaluate.scenarios.instances import converter, examples_of, generator, instances_of
from zhenlong.evaluate.scenarios.scenario import Scenario, catalogue, parse, scenario

__all__ = ["Scenario", "catalogue", "converter", "examples_of", "generator", "instances_of", "parse", "scenario"]
