"""A wrapped request is what the model is asked; the request itself is what the answer is judged by."""

from __future__ import annotations

from dataclasses import replace

from zhenlong.evaluate.adapters.methods import AdapterContext, RequestPlan, plan_requests
from zhenlong.evaluate.perturb.code_attack import wrap_request
from zhenlong.evaluate.results.instance import Instance


def plan_attack_requests(context: AdapterContext, instance: Instance, template: str = "") -> RequestPlan:
    """`ask` with the instance's input wrapped by the attack that its data names; the outcome has the instance as it is.

    `template` stands in for the attack's own. The prompt that is kept is the one that the model saw.
    """
    disguised = replace(instance, input=wrap_request(str(instance.data["attack"]), instance.input, template))
    outcome = yield from plan_requests(context, disguised)
    return replace(outcome, instance=instance, prompt=outcome.prompt or disguised.input)
