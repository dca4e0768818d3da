"""The command line: `zhenlong <stage or tool> --options`; each command is the Python function of the same name.

A function's signature and docstring are read from its source (`zhenlong.options.signature`), so options, their help and
`--config file.yaml` come from one place, and help imports no more than this. A user's mistake is one line on stderr and
exit code 2, never a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zhenlong.api.deprecation import ZhenlongDeprecationWarning
from zhenlong.cli.help import help_text
from zhenlong.cli.parse import normalise_words, parse_options
from zhenlong.errors import UserError
from zhenlong.options.signature import read_signature
from zhenlong.recipes import recipe_description, shipped_recipes
from zhenlong.registry import COMMAND_GROUPS, commands, load_target


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; the process exits with 0, 2 for a user's mistake, or 128 + the signal that stopped it."""
    try:
        _main(argv)
        sys.stdout.flush()  # here, where a reader that went away (`| head`) can be caught
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        raise SystemExit(128 + signal.SIGPIPE) from None


def _main(argv: Sequence[str] | None) -> None:
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
            target = known[name].target
            if name == "run":
                _run_recipe(target, rest)
            else:
                _run_command(name, target, rest)
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


def _run_command(name: str, path: str, arguments: Sequence[str]) -> None:
    signature = read_signature(path)
    if {"-h", "--help"} & set(arguments):
        print(help_text(name, signature))
        raise SystemExit(0)
    words = normalise_words(name, signature, arguments)  # before the function is imported, which takes seconds
    function = load_target(path)
    try:
        options = parse_options(name, function, signature, words)
    except Exception as error:
        raise UserError(f"zhenlong {name}: {_as_one_line(error)}; see zhenlong {name} --help") from None
    result = function(**options)
    if isinstance(result, Path):
        print(result)
    elif hasattr(result, "as_text"):  # functions return, the command line prints
        print(result.as_text())
    if getattr(result, "exit_code", 0):
        raise SystemExit(result.exit_code)


def _run_recipe(path: str, arguments: Sequence[str]) -> None:
    """`zhenlong run recipe.yaml --name value ...`: the names are those of the recipe's own arguments."""
    usage = "usage: zhenlong run <recipe> [--<argument> <value> ...]"
    if not arguments or {"-h", "--help"} & set(arguments):
        shipped = [f"  {name:<16}{recipe_description(file)}" for name, file in shipped_recipes().items()]
        print(f"{usage}\n\n{read_signature(path).summary}\n\nA recipe is the path of a YAML file, or one of these:")
        print("\n".join([*shipped, "\nThe arguments are those that the recipe lists, such as --output and --seed."]))
        return
    recipe, rest = arguments[0], list(arguments[1:])
    pairs = [part for one in rest for part in (one.split("=", 1) if one.startswith("--") else [one])]
    names, values = pairs[::2], pairs[1::2]
    if recipe.startswith("-") or len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise UserError(f"zhenlong run: cannot read {' '.join(arguments)!r}; {usage}")
    load_target(path)(recipe, **{name[2:]: value for name, value in zip(names, values, strict=True)})


def _as_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _overview(names: Sequence[str] = ()) -> str:
    """Every command with its one line, by group; or only those named."""
    lines = ["Post-train a language model, and prove that it got better.\n\nusage: zhenlong <command> [--options]"]
    for group, title in COMMAND_GROUPS.items():
        shown = [one for one in commands().values() if one.group == group and (not names or one.name in names)]
        rows = [f"  {one.name:<22}{one.summary}" for one in shown]
        lines += [f"\n{title}:", *rows] if rows else []
    return "\n".join([*lines, "\nzhenlong <command> --help lists its options."])


def _fail(message: str) -> None:
    print(f"zhenlong: error: {message}", file=sys.stderr)
    raise SystemExit(2)
