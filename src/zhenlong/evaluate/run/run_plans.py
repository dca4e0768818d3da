"""Run the request plans of many instances side by side: the requests of one round go to the model together.

Of an instance that an attack wraps, the model is asked the wrapped request, and judged by the request itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.methods import AdapterContext, RequestPlan, plan_requests
from zhenlong.evaluate.perturb.code_attack import wrap_request
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.guarded_call import ANYTHING, describe_error
from zhenlong.inference.model_client import ModelClient, ProgressCallback
from zhenlong.inference.requests import Request, RequestResult

ITEM_AMONG_EXAMPLES: Final = "item_among_examples"  # in an outcome's metadata: it was left out of its own examples


def run_plans(
    plans: Sequence[RequestPlan], model: ModelClient, on_progress: ProgressCallback | None = None
) -> list[Outcome]:
    """Run all plans to their outcomes."""
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, list[Request]] = {}
    for number, plan in enumerate(plans):
        _advance(number, plan, None, waiting, outcomes)
    while waiting:
        requests_of_round = [request for requests in waiting.values() for request in requests]
        answers = iter(model.run(requests_of_round, on_progress))
        round_, waiting = waiting, {}
        for number, requests in round_.items():
            _advance(number, plans[number], [next(answers) for _ in requests], waiting, outcomes)
    return [outcomes[number] for number in range(len(plans))]


def plan_attack_requests(context: AdapterContext, instance: Instance, template: str = "") -> RequestPlan:
    """`plan_requests` of the input as wrapped by the attack that its data names; the outcome has the plain instance.

    `template` stands in for the attack's own. The prompt that is kept is the one that the model saw.
    """
    disguised = replace(instance, input=wrap_request(str(instance.data["attack"]), instance.input, template))
    outcome = yield from plan_requests(context, disguised)
    return replace(outcome, instance=instance, prompt=outcome.prompt or disguised.input)


def guarded_plan(plan: RequestPlan, context: AdapterContext, instance: Instance) -> RequestPlan:
    """The plan, whose outcome is failed where its code raises something: only this instance's."""
    try:
        return (yield from plan)
    except UserError:
        raise
    except ANYTHING as error:
        reason = f"adapter {context.adapter.method}: {describe_error(error)}"
        return Outcome(instance, failed=reason, shots=context.adapter.shots, trial=context.trial)


def noted_plan(plan: RequestPlan, note: str) -> RequestPlan:
    """The plan, with a note in its outcome's metadata."""
    outcome = yield from plan
    return replace(outcome, metadata={**outcome.metadata, note: True})


def _advance(
    number: int,
    plan: RequestPlan,
    answers: list[RequestResult] | None,
    waiting: dict[int, list[Request]],
    outcomes: dict[int, Outcome],
) -> None:
    try:
        waiting[number] = next(plan) if answers is None else plan.send(answers)
    except StopIteration as ended:
        outcomes[number] = ended.value
