"""The words of a command line as the options of a function: jsonargparse checks them against its types."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, get_type_hints

from zhenlong.cli.help import CONFIG_HELP
from zhenlong.errors import UserError
from zhenlong.options import unknown_option
from zhenlong.options.signature import REQUIRED, Parameter, Signature

STRING_LIST: Final = "Sequence[str]"
NUMBER_LIST: Final = "Sequence[float]"
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def parse_options(
    name: str, function: Callable[..., Any], signature: Signature, words: Sequence[str]
) -> dict[str, Any]:
    """Every option of the function, from the words, from the file that `--config` names, or its default."""
    from jsonargparse import ArgumentParser  # slow to import, and needed here only

    parser = ArgumentParser(prog=f"zhenlong {name}", exit_on_error=False, description=signature.summary)
    own_config = "config" in signature.names
    if not own_config:
        parser.add_argument("--config", action="config", help=CONFIG_HELP)
    for one in signature.parameters:
        given: dict[str, Any] = {"required": True} if one.default is REQUIRED else {"default": one.default}
        parser.add_argument(f"--{one.name}", type=_type_of(function, one), help=one.help, **given)
    options = parser.instantiate_classes(parser.parse_args(list(words))).as_dict()
    if not own_config:
        options.pop("config", None)
    return options


def _type_of(function: Callable[..., Any], parameter: Parameter) -> Any:
    if not parameter.options_class:
        return get_type_hints(function)[parameter.name]
    module = getattr(function, "__globals__", {})
    return get_type_hints(module[parameter.options_class])[parameter.name]


def normalise_words(name: str, signature: Signature, arguments: Sequence[str]) -> list[str]:
    """The words as the parser reads them: names for words by position, true for bare flags, lists as one value.

    `compare A B --model-a sft` becomes `--evaluation_a=A --evaluation_b=B --model_a sft`. Raises `UserError` for a name
    that is no option.
    """
    words = _name_positionals(signature, arguments)
    known = [*signature.names, "config", "print_config", "help"]
    for word in words:
        option = word.removeprefix("--").partition("=")[0]
        if _is_option_name(f"--{option}") and word.startswith("--") and option not in known:
            raise UserError(f"zhenlong {name}: --{unknown_option(option, known)}; see zhenlong {name} --help")
    return _merge_repeated_options(signature, _complete_flags(signature, words))


def _name_positionals(signature: Signature, arguments: Sequence[str]) -> list[str]:
    """A parameter that Python takes by position needs no name, one that is a list takes all such words that are left.

    A name's words may be joined by `-` too.
    """
    by_position = [one for one in signature.parameters if one.by_position]
    words: list[str] = []
    rest = list(arguments)
    while rest and not rest[0].startswith("-") and by_position:
        words.append(f"--{by_position[0].name}={rest.pop(0)}")
        if STRING_LIST not in by_position[0].type:
            del by_position[0]
    for argument in rest:
        name, equals, value = argument.partition("=")
        words.append(
            name.replace("-", "_").replace("__", "--", 1) + equals + value if _is_option_name(name) else argument
        )
    return words


def _is_option_name(word: str) -> bool:
    return word.startswith("--") and word[2:].replace("-", "_").isidentifier()


def _complete_flags(signature: Signature, arguments: Sequence[str]) -> list[str]:
    """A bare `--flag` of a true-or-false option means true."""
    flags = {f"--{one.name}" for one in signature.parameters if one.type == "bool"}
    found = []
    for argument, following in pairwise([*arguments, "--"]):
        found.append(argument)
        if argument in flags and following.startswith("--"):
            found.append("true")
    return found


def _merge_repeated_options(signature: Signature, arguments: Sequence[str]) -> list[str]:
    """`--model A --model B` of an option that takes several words as the one list that the parser reads."""
    several = {
        f"--{one.name}": one.type for one in signature.parameters if STRING_LIST in one.type or NUMBER_LIST in one.type
    }
    values: dict[str, list[Any]] = {}
    rest: list[str] = []
    left = list(arguments)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if name not in several:
            rest.append(name + equals + value)
            continue
        if not equals and not left:
            raise UserError(f"{name}: expected a value after it")
        word = value if equals else left.pop(0)
        is_number = NUMBER_LIST in several[name] and _NUMBER.fullmatch(word)
        values.setdefault(name, []).extend(
            json.loads(word) if word.startswith("[") else [float(word) if is_number else word]
        )
    return [*rest, *(f"{name}={json.dumps(words)}" for name, words in values.items())]
