"""`zhenlong <command> --help`, printed from the command's source alone."""

from __future__ import annotations

import re
from shutil import get_terminal_size
from textwrap import fill
from typing import Final

from zhenlong.options.signature import REQUIRED, Parameter, Signature

INDENT: Final = 26
CONFIG_HELP: Final = "YAML file with options; those on the command line win."


def help_text(name: str, signature: Signature) -> str:
    """Usage, what the command does, and every option with its type, its help and its default."""
    width = min(max(get_terminal_size().columns, 80), 120)
    by_position = [one for one in signature.parameters if one.by_position]
    words = " ".join(one.name if one.default is REQUIRED else f"[{one.name}]" for one in by_position)
    lines = [f"usage: zhenlong {name} {f'{words} ' if words else ''}[--options]", "", signature.summary, "", "options:"]
    lines.append(_entry("-h, --help", "Show this message and exit.", width))
    if "config" not in signature.names:
        lines.append(_entry("--config FILE", CONFIG_HELP, width))
        lines.append(_entry("--print_config", "Print the options as YAML, for --config, and exit.", width))
    for one in signature.parameters:
        lines.append(_entry(f"--{one.name} {_value_name(one)}", f"{one.help} {_default_text(one)}", width))
    return "\n".join(lines)


def _entry(option: str, text: str, width: int) -> str:
    indent = " " * INDENT
    body = fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    head = f"  {option}"
    return f"{head:<{INDENT}}{body[INDENT:]}" if len(head) < INDENT - 1 else f"{head}\n{body}"


def _value_name(parameter: Parameter) -> str:
    """What stands for the value: the words to choose from, or the type."""
    choices = re.findall(r"Literal\[([^\]]*)\]", parameter.type)
    if choices:
        return "{" + ",".join(word.strip().strip("'\"") for word in choices[0].split(",")) + "}"
    kinds = {"int": "NUMBER", "float": "NUMBER", "bool": "{true,false}", "Sequence[str]": "WORD"}
    return kinds.get(parameter.type.split(" | ")[0], "TEXT")


def _default_text(parameter: Parameter) -> str:
    if parameter.default is REQUIRED:
        return "(required)"
    if parameter.default in (None, "", ()):
        return "(default: none)" if parameter.default != "" else '(default: "")'
    default = str(parameter.default).lower() if isinstance(parameter.default, bool) else parameter.default
    return f"(default: {default})"
