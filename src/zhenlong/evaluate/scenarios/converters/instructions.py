"""Rows of IFEval: a prompt and the instructions in it that a program can check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.scenarios.converters.questions import text_field
from zhenlong.evaluate.scenarios.instances import converter
from zhenlong.verify.instructions import instructions_followed


@converter("instructions")
def instructions(fields: Mapping[str, Any]) -> Instance:
    """`prompt`, `instruction_id_list` and `kwargs`, one mapping for each instruction; None stands for no argument."""
    kinds, kwargs = fields["instruction_id_list"], fields["kwargs"]
    for name, given in (("instruction_id_list", kinds), ("kwargs", kwargs)):
        if not isinstance(given, list) or len(given) != len(kinds):
            raise ValueError(f"{name}: expected a list with an entry for each instruction, got {given!r}")
    given = [{name: value for name, value in (one or {}).items() if value is not None} for one in kwargs]
    try:
        instructions_followed("", kinds, given)  # only the kinds and their arguments are looked at
    except UserError as error:
        raise ValueError(str(error)) from None
    families = {kind.split(":")[0] for kind in kinds}
    groups = {"family": families.pop()} if len(families) == 1 else {"family": "several"}
    return Instance(
        "", text_field(fields, "prompt"), groups=groups, data={"instruction_id_list": kinds, "kwargs": given}
    )
