"""Converters for open-ended prompts: rated by a judge, verified by a program (IFEval), or checked for refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zhenlong.data.field_parsing import Fields
from zhenlong.errors import UserError
from zhenlong.evaluate.judges.prompts import LLMBAR, LLMBAR_RATING, fill_template
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.converters.questions import text_field
from zhenlong.evaluate.scenarios.instances import converter
from zhenlong.verify.instructions import instructions_followed

XSTEST_LABELS = ("safe", "unsafe")
REQUESTS = ("goal", "Goal", "behavior", "Behavior", "request", "prompt")


@converter("alpaca_eval")
def convert_alpaca_eval(fields: Fields) -> Instance:
    """`instruction`, `dataset`, and in the baseline's file `output`."""
    groups = {"dataset": str(fields["dataset"])} if fields.get("dataset") else {}
    data = {"baseline": (text_field(fields, "output"),)} if fields.get("output") else {}
    return Instance("", text_field(fields, "instruction"), groups=groups, data=data)


@converter("mt_bench")
def convert_mt_bench(fields: Fields) -> Instance:
    """`question_id`, `category`, `turns` (lm-sys/FastChat); the hub calls the turns `prompt`.

    `reference` is ignored: it holds hints, some of them empty, not the reference answers shown to the judge.
    """
    name = "turns" if "turns" in fields else "prompt"
    turns = fields[name]
    if not isinstance(turns, list) or not turns or not all(isinstance(one, str) and one.strip() for one in turns):
        raise ValueError(f"{name}: expected the user's turns, got {turns!r}")
    return Instance("", turns[0], groups={"category": text_field(fields, "category")}, turns=tuple(turns[1:]))


@converter("arena_hard")
def convert_arena_hard(fields: Fields) -> Instance:
    """`uid`, `category`, `prompt`; before 2025 `question_id` and `turns` with one entry, {"content"}."""
    asked = fields["prompt"] if "prompt" in fields else fields["turns"][0]["content"]
    if not isinstance(asked, str) or not asked.strip():
        raise ValueError(f"prompt: expected some text, got {asked!r}")
    return Instance("", asked, groups={"category": text_field(fields, "category")})


@converter("llmbar")
def llmbar(fields: Fields) -> list[Instance]:
    """`input`, `output_1`, `output_2`, `label`: two instances, one per order of the outputs."""
    label = str(fields["label"])
    if label not in ("1", "2"):
        raise ValueError(f"label: expected 1 or 2, got {label!r}")
    found = []
    for order in ("12", "21"):
        values = {"input": text_field(fields, "input")}
        values |= {f"output_{place}": text_field(fields, f"output_{which}") for place, which in enumerate(order, 1)}
        references = tuple(
            Reference(f"Output ({letter})", which == label) for letter, which in zip("ab", order, strict=True)
        )
        found.append(Instance(order, fill_template(LLMBAR, values), references, groups={"order": order}))
    return found


@converter("instructions")
def convert_instructions(fields: Mapping[str, Any]) -> Instance:
    """`prompt`, `instruction_id_list` and `kwargs`, one mapping per instruction; None means no argument."""
    kinds, kwargs = fields["instruction_id_list"], fields["kwargs"]
    for name, given in (("instruction_id_list", kinds), ("kwargs", kwargs)):
        if not isinstance(given, list) or len(given) != len(kinds):
            raise ValueError(f"{name}: expected a list with an entry for each instruction, got {given!r}")
    given = [{name: value for name, value in (one or {}).items() if value is not None} for one in kwargs]
    try:
        instructions_followed("", kinds, given)  # validates kinds and arguments
    except UserError as error:
        raise ValueError(str(error)) from None
    families = {kind.split(":")[0] for kind in kinds}
    groups = {"family": families.pop()} if len(families) == 1 else {"family": "several"}
    return Instance(
        "", text_field(fields, "prompt"), groups=groups, data={"instruction_id_list": kinds, "kwargs": given}
    )


@converter("xstest")
def convert_xstest(fields: Fields) -> Instance:
    """`prompt`, `type`, `label` (safe or unsafe); an older file has no label, its unsafe types begin with contrast.

    A safe prompt and its unsafe contrast share type and `focus`: they are a cluster.
    """
    kind = text_field(fields, "type")
    label = str(fields["label"]) if "label" in fields else XSTEST_LABELS[kind.startswith("contrast")]
    if label not in XSTEST_LABELS:
        raise ValueError(f"label: expected safe or unsafe, got {label!r}")
    pair = f"{kind.removeprefix('contrast_')}: {fields['focus']}" if fields.get("focus") else ""
    return Instance(
        "", text_field(fields, "prompt"), groups={"label": label, "type": kind}, data={"label": label}, cluster=pair
    )


@converter("advbench")
def convert_advbench(fields: Fields) -> Instance:
    """A harmful request, and optionally in `target` the beginning of a compliant response.

    Other lists use other field names for the request (HarmBench `Behavior`, JailbreakBench `Goal`).
    """
    name = next((one for one in REQUESTS if one in fields), REQUESTS[0])
    target = {"target": text_field(fields, "target")} if fields.get("target") else {}
    return Instance("", text_field(fields, name), data=target)


@converter("llmbar_rating")
def llmbar_rating(fields: Fields) -> list[Instance]:
    """`input`, `output_1`, `output_2`, `label`: two instances, one per output."""
    label = str(fields["label"])
    if label not in ("1", "2"):
        raise ValueError(f"label: expected 1 or 2, got {label!r}")
    found = []
    for place in ("1", "2"):
        values = {"input": text_field(fields, "input"), "output": text_field(fields, f"output_{place}")}
        found.append(Instance(place, fill_template(LLMBAR_RATING, values), data={"label": label}))
    return found


@converter("tau_bench")
def tau_bench(fields: Fields) -> Instance:
    """A trajectory's task: the user's instruction, and the domain where the file says it."""
    info = fields.get("info")
    task = fields.get("task") or (info.get("task") if isinstance(info, Mapping) else None) or {}
    if not isinstance(task, Mapping):
        raise ValueError(f"task: expected an object, got {type(task).__name__}")
    asked = task.get("instruction") or (task.get("description") or {}).get("purpose") or ""
    groups = {"domain": str(fields["domain"])} if fields.get("domain") else {}
    return Instance("", str(asked), groups=groups)


@converter("recorded_verdicts")
def recorded_verdicts(fields: Fields) -> Instance:
    """Verdicts of a judge and of people on one thing, with its `prompt` where the row has it."""
    return Instance("", str(fields.get("prompt") or ""))
