"""Write the rows of `evaluate_behaviour` as an evaluation folder, which `compare`, `gate` and the report read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.results.result_files import InstanceRecord, Result, instances_path, record_to_json, write_results
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.scenarios.scenario import get_scenario
from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.evaluate.world.behaviour import WorldResponse
from zhenlong.inference.requests import GeneratedOutput, RequestCost
from zhenlong.loop.atomic import write_text
from zhenlong.records import Task

SCENARIO: Final = "world_tasks"
PromptWithLength = tuple[str, int]  # prompt text as sent, number of tokens


def write_world_evaluation(
    folder: str | Path,
    tasks: Sequence[Task],
    rows: Mapping[str, Sequence[WorldResponse]],
    prompts: Mapping[str, Sequence[PromptWithLength]],
    manifest: Mapping[str, Any],
) -> None:
    """Write the rows of several models, one per task, as the scenario `world_tasks`.

    An instance's id is the index of its task. Besides the scenario's measures there are `proxy_reward`, if it was
    measured, and the KL of each response. `manifest` goes into evaluation.json.
    """
    results: list[Result] = []
    for model, own in rows.items():
        found, records = _model_results(model, tasks, own, prompts[model])
        results += found
        text = "".join(record_to_json(one) + "\n" for one in records)
        write_text(instances_path(folder, model, SCENARIO), text)
    write_results(folder, {"models": list(rows), "scenarios": [SCENARIO], **manifest}, results)


def _model_results(
    model: str, tasks: Sequence[Task], rows: Sequence[WorldResponse], prompts: Sequence[PromptWithLength]
) -> tuple[list[Result], list[InstanceRecord]]:
    outcomes = [_outcome(str(at), *one) for at, one in enumerate(zip(tasks, rows, prompts, strict=True))]
    results, records = aggregate(get_scenario(SCENARIO), outcomes, model=model)
    proxies = [row.proxy for row in rows if row.proxy is not None]
    if proxies:
        results.append(Result(model, SCENARIO, "proxy_reward", mean_interval(proxies)))
    extra = [{"proxy_reward": row.proxy, "kl": row.kl} for row in rows]
    return results, [
        replace(one, scores={**one.scores, **{name: value for name, value in more.items() if value is not None}})
        for one, more in zip(records, extra, strict=True)
    ]


def _outcome(place: str, task: Task, row: WorldResponse, prompt: PromptWithLength) -> Outcome:
    text, tokens = prompt
    instance = Instance(
        place,
        str(row.prompt[-1]["content"]),
        (Reference(task.reference),) if task.reference else (),
        groups={"family": row.family},
        data={"messages": row.prompt, "world": task.arguments.get("seed", 0)},
    )
    output = GeneratedOutput(row.response, num_tokens=row.tokens, truncated=row.truncated)
    return Outcome(
        instance, (output,), prompt=text, cost=RequestCost(prompt_tokens=tokens, generated_tokens=row.tokens)
    )
