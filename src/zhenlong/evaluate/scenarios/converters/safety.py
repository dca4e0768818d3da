"""Rows of the sets that look for refusals: where there should be none, and where there should be one."""

from __future__ import annotations

from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.scenarios.converters.questions import Fields, text_field
from zhenlong.evaluate.scenarios.instances import converter

LABELS = ("safe", "unsafe")
REQUESTS = ("goal", "Goal", "behavior", "Behavior", "request", "prompt")


@converter("xstest")
def xstest(fields: Fields) -> Instance:
    """`prompt`, `type`, `label` (safe or unsafe); an older file has no label, its unsafe types begin with contrast."""
    kind = text_field(fields, "type")
    label = str(fields["label"]) if "label" in fields else LABELS[kind.startswith("contrast")]
    if label not in LABELS:
        raise ValueError(f"label: expected safe or unsafe, got {label!r}")
    return Instance("", text_field(fields, "prompt"), groups={"label": label, "type": kind}, data={"label": label})


@converter("advbench")
def advbench(fields: Fields) -> Instance:
    """A harmful request, and in `target`, where there is one, the words with which a complying answer would begin.

    Lists of other origin name the request otherwise (HarmBench `Behavior`, JailbreakBench `Goal`).
    """
    name = next((one for one in REQUESTS if one in fields), REQUESTS[0])
    target = {"target": text_field(fields, "target")} if fields.get("target") else {}
    return Instance("", text_field(fields, name), data=target)
