"""`lm_eval:<task>`: a task of lm-evaluation-harness, prompted by our adapters and scored by its own metrics.

`lm_eval:<task>?include=<folder>` finds the task's YAML in a folder of your own. Supported are multiple_choice,
generate_until and loglikelihood_rolling. In-context examples are sampled by our rule (or are the first ones if the task
says so), not by the harness's random sampler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.metrics.lm_eval import LM_EVAL_PREFIX, load_tasks
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.scenario import Scenario

METHOD_BY_OUTPUT_TYPE: Final = {
    "multiple_choice": "multiple_choice_separate",
    "generate_until": "generation",
    "loglikelihood_rolling": "language_modelling",
}


def lm_eval_scenarios(name: str) -> list[Scenario]:
    """The scenarios of `lm_eval:<task>`: one, or one per task of a group.

    Raises `UserError` if lm_eval is not installed, for an unknown task, and for an unsupported kind of task.
    """
    task, _, include = name.removeprefix(LM_EVAL_PREFIX).partition("?include=")
    return [_scenario(one, include) for one in sorted(load_tasks(task, include))]


def task_documents(task: str, include: str, part: str) -> Iterator[dict[str, Any]]:
    """The documents of a task: those to evaluate (`part` is `test`), or the pool of examples (`examples`)."""
    known = load_tasks(task, include)[task]
    found = known.eval_docs if part == "test" else known.fewshot_docs()
    for doc in found or ():
        yield {"doc": dict(doc)}


def document_instance(doc: Mapping[str, Any], task: str, include: str) -> Instance:
    """A document as an instance: its text, and its choices or its target. Raises `ValueError` for other kinds."""
    known = load_tasks(task, include)[task]
    data = {"doc": doc}
    if known.OUTPUT_TYPE == "loglikelihood_rolling":
        return Instance("", str(known.doc_to_target(doc)), data=data)
    text, target = known.doc_to_text(doc), known.doc_to_target(doc)
    if not isinstance(text, str):
        raise ValueError(f"task {task}: its contexts are the choices, which is not supported")
    if known.OUTPUT_TYPE == "multiple_choice":
        right = target if isinstance(target, list) else [target]
        choices = known.doc_to_choice(doc)
        return Instance("", text, tuple(Reference(one, place in right) for place, one in enumerate(choices)), data=data)
    targets = target if isinstance(target, list) else [target]
    return Instance("", text, tuple(Reference(str(one)) for one in targets), data=data)


def _scenario(task: str, include: str) -> Scenario:
    known = load_tasks(task, include)[task]
    method = METHOD_BY_OUTPUT_TYPE.get(known.OUTPUT_TYPE)
    if method is None:
        raise UserError(
            f"{LM_EVAL_PREFIX}{task}: tasks of the kind {known.OUTPUT_TYPE} are not supported; "
            f"{', '.join(METHOD_BY_OUTPUT_TYPE)} are"
        )
    config = known.config
    query = f"task={task}" + (f"&include={include}" if include else "")
    options: dict[str, Any] = {"name": "lm_eval", "task": task, "include": include}
    metrics: tuple[Any, ...] = (options,)
    main = str(config.metric_list[0]["metric"]) if config.metric_list else "acc"
    if method == "language_modelling":
        metrics, main = ("bits_per_byte", "perplexity"), "bits_per_byte"
    return Scenario(
        name=f"{LM_EVAL_PREFIX}{task}",
        title=f"{task} (lm-evaluation-harness)",
        source=f"generated:lm_eval?{query}",
        examples=f"generated:lm_eval?{query}&part=examples",
        convert=({"using": "lm_eval", "task": task, "include": include},),
        metrics=metrics,
        main=main,
        adapter=_adapter(known, method),
        url=f"https://github.com/EleutherAI/lm-evaluation-harness/tree/main/lm_eval/tasks ({task})",
    )


def _adapter(task: Any, method: str) -> Adapter:
    config = task.config
    decoding: dict[str, Any] = dict(config.generation_kwargs or {})
    until = decoding.get("until") or []
    separator = config.fewshot_delimiter
    sampler = getattr(config.fewshot_config, "sampler", None)
    return Adapter(
        method=method,
        instructions=str(config.description or "").removesuffix(separator),
        input_prefix="",
        input_suffix="",
        output_prefix=config.target_delimiter if method != "language_modelling" else "",
        output_suffix="",
        instance_separator=separator,
        shots=int(config.num_fewshot or 0),
        sample_examples=sampler != "first_n",
        normalise_by="none",
        max_tokens=int(decoding.get("max_gen_toks") or decoding.get("max_new_tokens") or 256),
        temperature=float(decoding.get("temperature", 0.0)) if decoding.get("do_sample") else 0.0,
        stop=tuple(one for one in ([until] if isinstance(until, str) else until) if one),
    )
