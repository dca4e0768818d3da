"""The command line: `zhenlong <stage or tool> --options`; each command is the Python function of the same name.

jsonargparse reads a function's signature and docstring, so options, their help and `--config file.yaml` come from one
place. A user's mistake is one line on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "pretrain": ("zhenlong.stages.pretrain:pretrain", "train a base model on documents"),
    "sft": ("zhenlong.stages.sft:sft", "fine-tune on demonstrations"),
    "reward_model": ("zhenlong.stages.reward_model:reward_model", "train a reward model on rankings"),
    "dpo": ("zhenlong.stages.dpo:dpo", "optimise a policy on rankings directly"),
    "ppo": ("zhenlong.stages.ppo:ppo", "optimise a policy against a reward, with a critic"),
    "grpo": ("zhenlong.stages.grpo:grpo", "optimise a policy against a reward, in groups (RLOO, DAPO, GSPO, ...)"),
    "collect": ("zhenlong.feedback:collect", "let simulated annotators rank a model's answers"),
    "run": ("zhenlong.stages.recipe:run", "run a recipe: stages and evaluations, one after the other"),
    "sample": ("zhenlong.sampling.command:sample_command", "chat with a model, or complete prompts"),
    "report": ("zhenlong.report:write_report", "make a run's or a recipe's report.html"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; the process exits with 0, 2 for a user's mistake, or 128 + the signal that stopped it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return
    if given[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"zhenlong {version('zhenlong')}")
        return
    name, rest = given[0].replace("-", "_"), given[1:]
    if name not in COMMANDS:
        _fail(f"{given[0]}: no such command; expected one of {', '.join(COMMANDS)}")
    try:
        with _warnings_in_one_line():
            function = _function(COMMANDS[name][0])
            if name == "run":
                _run_recipe(function, rest)
            else:
                _call(name, function, rest)
    except UserError as error:
        _fail(str(error))


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Warnings without the line of source they come from; those to programmers, about libraries, are left out."""

    def show(message: Warning | str, *_: Any) -> None:
        print(f"zhenlong: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _call(name: str, function: Callable[..., Any], arguments: Sequence[str]) -> None:
    from jsonargparse import ArgumentParser, set_parsing_settings  # slow to import, and needed here only

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"zhenlong {name}", exit_on_error=False, description=_first_line(function))
    parser.add_argument("--config", action="config", help="YAML file with options; those on the command line win.")
    parser.add_function_arguments(function, as_group=False, fail_untyped=False)
    try:
        parsed = parser.parse_args(_with_values(parser, _named(function, arguments)))
    except Exception as error:
        raise UserError(f"zhenlong {name}: {_one_line(error)}; see zhenlong {name} --help") from None
    options = parser.instantiate_classes(parsed).as_dict()
    options.pop("config", None)
    made = function(**options)
    if isinstance(made, Path):
        print(made)


def _run_recipe(function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """`zhenlong run recipe.yaml --name value ...`: the names are those of the recipe's own arguments."""
    usage = "usage: zhenlong run <recipe.yaml> [--<argument> <value> ...]"
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{usage}\n\n{_first_line(function)}\nThe arguments are those that the recipe lists, such as --output.")
        return
    recipe, rest = arguments[0], list(arguments[1:])
    pairs = [part for one in rest for part in (one.split("=", 1) if one.startswith("--") else [one])]
    names, values = pairs[::2], pairs[1::2]
    if recipe.startswith("-") or len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise UserError(f"zhenlong run: cannot read {' '.join(arguments)!r}; {usage}")
    function(recipe, **{name[2:]: value for name, value in zip(names, values, strict=True)})


def _named(function: Callable[..., Any], arguments: Sequence[str]) -> list[str]:
    """`report runs/demo` for `report --folder runs/demo`: a parameter that Python takes by position needs no name."""
    first = next(iter(inspect.signature(function).parameters.values()))
    by_position = first.kind is first.POSITIONAL_OR_KEYWORD
    if by_position and arguments and not arguments[0].startswith("-"):
        return [f"--{first.name}", *arguments]
    return list(arguments)


def _with_values(parser: Any, arguments: Sequence[str]) -> list[str]:
    """A bare `--flag` of a true-or-false option means true."""
    flags = {name for action in parser._actions for name in action.option_strings if _is_bool(action)}
    found = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        found.append(argument)
        if argument in flags and following.startswith("--"):
            found.append("true")
    return found


def _is_bool(action: Any) -> bool:
    return getattr(action, "_typehint", None) is bool or getattr(action, "type", None) is bool


def _function(path: str) -> Callable[..., Any]:
    module, name = path.split(":")
    return getattr(import_module(module), name)


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _overview() -> str:
    lines = [f"  {name:<14}{said}" for name, (_, said) in COMMANDS.items()]
    head = "Post-train a language model, and prove that it got better.\n\nusage: zhenlong <command> [--options]\n"
    return "\n".join([head, *lines, "\nzhenlong <command> --help lists its options."])


def _fail(message: str) -> None:
    print(f"zhenlong: error: {message}", file=sys.stderr)
    raise SystemExit(2)
