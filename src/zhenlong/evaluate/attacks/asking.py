"""A wrapped request is what the model is asked; the request itself is what the answer is judged by."""

from __future__ import annotations

from dataclasses import replace

from zhenlong.evaluate.adapters.ask import Asking, Setting, ask
from zhenlong.evaluate.attacks.code import wrapped
from zhenlong.evaluate.instance import Instance


def ask_attacked(setting: Setting, instance: Instance, template: str = "") -> Asking:
    """`ask` with the instance's input wrapped by the attack that its data names; the outcome has the instance as it is.

    `template` stands in for the attack's own. The prompt that is kept is the one that the model saw.
    """
    disguised = replace(instance, input=wrapped(str(instance.data["attack"]), instance.input, template))
    outcome = yield from ask(setting, disguised)
    return replace(outcome, instance=instance, prompt=outcome.prompt or disguised.input)
