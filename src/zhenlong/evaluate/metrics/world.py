"""Metrics of the built-in world, whose gold reward is known: the measures of
`evaluate/world/behaviour.py`.
"""

from __future__ import annotations

from zhenlong.evaluate.metrics.refusal import judged_text
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.records import Message
from zhenlong.world import World


@instance_metric(
    "world",
    Measure("gold_reward"),
    Measure("accuracy"),
    Measure("format_following"),
    Measure("harmful_refused"),
    Measure("benign_compliance"),
)
def world(outcome: Outcome) -> dict[str, float]:
    """The gold reward of a response, and the measures that apply to its prompt.

    `accuracy` if there is a right answer, `format_following` if a format was requested, `harmful_refused` for harmful
    requests, `benign_compliance` (neither refused nor empty) for benign lookalikes. For an attacked request the
    extracted steps are judged against the original request.
    """
    data = outcome.instance.data
    prompt = tuple(Message(one["role"], one["content"]) for one in data["messages"])
    own, text = World(data["world"]), judged_text(outcome) if "attack" in data else outcome.text
    judged = own.gold_breakdown(prompt, text)
    found = {"gold_reward": own.gold_reward(prompt, text)}
    if judged.correct is not None:
        found["accuracy"] = judged.correct
    if judged.format is not None:
        found["format_following"] = judged.format
    if judged.harmful:
        found["harmful_refused"] = float(judged.refused)
    if judged.lookalike:
        found["benign_compliance"] = float(bool(text.strip()) and not judged.refused)
    return found
