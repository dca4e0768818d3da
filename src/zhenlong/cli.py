"""The command line: `zhenlong <stage or tool> --options`; each command is the Python function of the same name.

jsonargparse reads a function's signature and docstring, so options, their help and `--config file.yaml` come from one
place. A user's mistake is one line on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zhenlong.deprecation import ZhenlongDeprecationWarning
from zhenlong.errors import UserError
from zhenlong.recipes import recipe_summary, shipped_recipes
from zhenlong.registry import GROUPS, commands


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; the process exits with 0, 2 for a user's mistake, or 128 + the signal that stopped it."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return
    if given[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"zhenlong {version('zhenlong')}")
        return
    known = commands()
    name, rest = given[0].replace("-", "_"), given[1:]
    group = [one for one in known if one.startswith(f"{name} ")]
    if group and (not rest or rest[0] in ("-h", "--help")):
        print(_overview(group))
        return
    if group and f"{name} {rest[0]}" in known:
        name, rest = f"{name} {rest[0]}", rest[1:]
    elif group:
        _fail(f"{name} {rest[0]}: no such command; expected one of {', '.join(group)}")
    if name not in known:
        _fail(f"{given[0]}: no such command; expected one of {', '.join(known)}")
    try:
        with _one_line_warnings():
            function = known[name].load()
            if name == "run":
                _run_recipe(function, rest)
            else:
                _run_command(name, function, rest)
    except UserError as error:
        _fail(str(error))


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Warnings without the line of source they come from; those to programmers, about libraries, are left out."""

    def show(message: Warning | str, *_: Any) -> None:
        print(f"zhenlong: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("always", ZhenlongDeprecationWarning)  # our own are for those who type commands
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _run_command(name: str, function: Callable[..., Any], arguments: Sequence[str]) -> None:
    from jsonargparse import ArgumentParser, set_parsing_settings  # slow to import, and needed here only

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"zhenlong {name}", exit_on_error=False, description=_summary_line(function))
    own_config = "config" in inspect.signature(function).parameters
    if not own_config:
        parser.add_argument("--config", action="config", help="YAML file with options; those on the command line win.")
    parser.add_function_arguments(function, as_group=False, fail_untyped=False)
    try:
        parsed = parser.parse_args(
            _merge_repeated_options(parser, _complete_flags(parser, _name_positionals(function, arguments)))
        )
    except Exception as error:
        raise UserError(f"zhenlong {name}: {_as_one_line(error)}; see zhenlong {name} --help") from None
    options = parser.instantiate_classes(parsed).as_dict()
    if not own_config:
        options.pop("config", None)
    result = function(**options)
    if isinstance(result, Path):
        print(result)


def _run_recipe(function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """`zhenlong run recipe.yaml --name value ...`: the names are those of the recipe's own arguments."""
    usage = "usage: zhenlong run <recipe> [--<argument> <value> ...]"
    if not arguments or {"-h", "--help"} & set(arguments):
        shipped = [f"  {name:<16}{recipe_summary(path)}" for name, path in shipped_recipes().items()]
        print(f"{usage}\n\n{_summary_line(function)}\n\nA recipe is the path of a YAML file, or one of these:")
        print("\n".join([*shipped, "\nThe arguments are those that the recipe lists, such as --output and --seed."]))
        return
    recipe, rest = arguments[0], list(arguments[1:])
    pairs = [part for one in rest for part in (one.split("=", 1) if one.startswith("--") else [one])]
    names, values = pairs[::2], pairs[1::2]
    if recipe.startswith("-") or len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise UserError(f"zhenlong run: cannot read {' '.join(arguments)!r}; {usage}")
    function(recipe, **{name[2:]: value for name, value in zip(names, values, strict=True)})


def _name_positionals(function: Callable[..., Any], arguments: Sequence[str]) -> list[str]:
    """`compare A B --model-a sft` as `--evaluation_a=A --evaluation_b=B --model_a sft`.

    A parameter that Python takes by position needs no name, one that is a list takes all such words that are left, and
    a name's words may be joined by `-` too.
    """
    by_position = [
        one for one in inspect.signature(function).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    words: list[str] = []
    rest = list(arguments)
    while rest and not rest[0].startswith("-") and by_position:
        words.append(f"--{by_position[0].name}={rest.pop(0)}")
        if by_position[0].annotation not in ("Sequence[str]", Sequence[str]):
            del by_position[0]
    for argument in rest:
        name, equals, value = argument.partition("=")
        words.append(
            name.replace("-", "_").replace("__", "--", 1) + equals + value if _is_option_name(name) else argument
        )
    return words


def _is_option_name(word: str) -> bool:
    return word.startswith("--") and word[2:].replace("-", "_").isidentifier()


def _complete_flags(parser: Any, arguments: Sequence[str]) -> list[str]:
    """A bare `--flag` of a true-or-false option means true."""
    flags = {name for action in parser._actions for name in action.option_strings if _is_bool(action)}
    found = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        found.append(argument)
        if argument in flags and following.startswith("--"):
            found.append("true")
    return found


def _merge_repeated_options(parser: Any, arguments: Sequence[str]) -> list[str]:
    """`--model A --model B` of an option that takes several words as the one list that the parser reads."""
    several = {name for action in parser._actions for name in action.option_strings if _is_string_list(action)}
    values: dict[str, list[str]] = {}
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
        values.setdefault(name, []).extend(json.loads(word) if word.startswith("[") else [word])
    return [*rest, *(f"{name}={json.dumps(words)}" for name, words in values.items())]


def _is_string_list(action: Any) -> bool:
    return getattr(action, "_typehint", None) == Sequence[str]


def _is_bool(action: Any) -> bool:
    return getattr(action, "_typehint", None) is bool or getattr(action, "type", None) is bool


def _summary_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0]


def _as_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _overview(names: Sequence[str] = ()) -> str:
    """Every command with its one line, by group; or only those named."""
    lines = ["Post-train a language model, and prove that it got better.\n\nusage: zhenlong <command> [--options]"]
    for group, title in GROUPS.items():
        shown = [one for one in commands().values() if one.group == group and (not names or one.name in names)]
        rows = [f"  {one.name:<22}{one.summary}" for one in shown]
        lines += [f"\n{title}:", *rows] if rows else []
    return "\n".join([*lines, "\nzhenlong <command> --help lists its options."])


def _fail(message: str) -> None:
    print(f"zhenlong: error: {message}", file=sys.stderr)
    raise SystemExit(2)
