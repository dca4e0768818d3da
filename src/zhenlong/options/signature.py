"""The options of a command, read from its source without importing it: help needs no torch.

A command is a function. Its own options are its parameters with the `Args:` of its docstring; those that it shares with
other commands are the fields of the classes in its call of `take_options`, with the defaults given in that call.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
REQUIRED: Final = ...
"""The default of a parameter that has none."""
ARGUMENT_HELP: Final = {
    "model": "Model to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.",
    "data": "Tasks (prompts with references): files, hf:owner/name or world:tasks.",
    "dual_clip": "For a negative advantage the ratio counts up to dual_clip only, such as 3; 0 disables it.",
    "json": "Print JSON instead of the table.",
    "judge_max_tokens": "Longest reply of the judge.",
    "seed": "Seed of the resampling.",
    "samples_per_prompt": "Answers sampled for each prompt; what is empty, cut off or said twice is not shown.",
    "output": "Run folder to make.",
    "reward": "What an answer is worth: verifier, model:<folder>, or a combination such as `gate(verifier, model:rm)`.",
}
"""What the arguments mean that many commands have; a command's own docstring may say more of one."""


@dataclass(frozen=True)
class Parameter:
    """One option: `options_class` names the class that declares it, "" where it is the function's own parameter.

    `place` is where its help is written: a function, a class or the shared arguments.
    """

    name: str
    type: str  # as text, aliases such as Overlong written out
    default: Any
    help: str
    options_class: str = ""
    by_position: bool = False
    place: str = ""


@dataclass(frozen=True)
class Signature:
    """A command's first line of documentation and its options, in the order of the source."""

    summary: str
    parameters: tuple[Parameter, ...]

    def __getitem__(self, name: str) -> Parameter:
        return next(one for one in self.parameters if one.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.parameters)


@dataclass(frozen=True)
class _Definition:
    """A name's definition: the module it stands in, and its statement."""

    module: str
    node: ast.stmt


def read_signature(path: str) -> Signature:
    """The signature of the function that `path` names as `package.module:function`."""
    module, _, name = path.partition(":")
    found = _find(module, name)
    assert found is not None, path
    assert isinstance(found.node, ast.FunctionDef), path
    documentation = ast.get_docstring(found.node) or ""
    own = _own_parameters(found.module, found.node, _argument_help(documentation))
    return Signature(documentation.split("\n")[0], (*own, *_shared_parameters(found.module, found.node)))


def read_options(path: str, defaults: Mapping[str, Any] | None = None) -> list[Parameter]:
    """The fields of the class of options that `path` names as `package.module:Class`, with other defaults if given."""
    module, _, name = path.partition(":")
    found = _find(module, name)
    assert found is not None, path
    assert isinstance(found.node, ast.ClassDef), path
    fields = {one.name: one for one in _fields(found.module, found.node)}
    changed = defaults or {}
    return [replace(one, default=changed.get(one.name, one.default), options_class=name) for one in fields.values()]


def options_classes(path: str) -> list[str]:
    """The classes of options that a function takes, each as `module:Class`, in order."""
    module, _, name = path.partition(":")
    found = _find(module, name)
    assert found is not None, path
    return [
        f"{found.module}:{one.func.id}"
        for one in _taken_options(found.node)
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
    ]


def _own_parameters(module: str, function: ast.FunctionDef, help_texts: Mapping[str, str]) -> list[Parameter]:
    arguments = function.args
    by_position = [*arguments.posonlyargs, *arguments.args]
    position_defaults = [None] * (len(by_position) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [
        *zip(by_position, position_defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [
        Parameter(
            one.arg,
            _type_text(module, one.annotation),
            REQUIRED if default is None else _value(module, default),
            help_texts.get(one.arg, ARGUMENT_HELP.get(one.arg, "")),
            by_position=one in by_position,
            place=f"{module}:{function.name}" if one.arg in help_texts else f"{__name__}:ARGUMENT_HELP",
        )
        for one, default in pairs
    ]


def _shared_parameters(module: str, function: ast.FunctionDef) -> list[Parameter]:
    found: list[Parameter] = []
    for call in _taken_options(function):
        assert isinstance(call, ast.Call), ast.unparse(call)
        assert isinstance(call.func, ast.Name), ast.unparse(call)
        defaults = {str(one.arg): _value(module, one.value) for one in call.keywords}
        found += read_options(f"{module}:{call.func.id}", defaults)
    return found


def _taken_options(function: ast.AST) -> list[ast.expr]:
    """The instances of options that the function hands to `take_options`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "take_options":
            return node.args[1:]
    return []


def _fields(module: str, options_class: ast.ClassDef) -> Iterator[Parameter]:
    """The fields of a dataclass, those of its bases first, in the order that `dataclass` gives them."""
    for base in reversed(options_class.bases):
        parent = _find(module, base.id) if isinstance(base, ast.Name) else None
        if parent is not None and isinstance(parent.node, ast.ClassDef):
            yield from _fields(parent.module, parent.node)
    following = [*options_class.body[1:], None]
    for statement, after in zip(options_class.body, following, strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            yield Parameter(
                statement.target.id,
                _type_text(module, statement.annotation),
                _value(module, statement.value),
                " ".join(str(text).split()),
                place=f"{module}:{options_class.name}",
            )


def _argument_help(documentation: str) -> dict[str, str]:
    """The text of each argument in a docstring's `Args:`."""
    found: dict[str, str] = {}
    name = ""
    section = documentation.partition("\nArgs:\n")[2].split("\n\n")[0]
    for line in section.splitlines():
        if entry := re.fullmatch(r" {4}(\w+): (.*)", line):
            name, found[entry[1]] = entry[1], entry[2]
        elif name and line.startswith(" " * 8):
            found[name] += " " + line.strip()
    return found


def _type_text(module: str, annotation: ast.expr | None) -> str:
    """The annotation as text, with names that stand for another type written out."""
    if annotation is None:
        return ""

    class WriteOut(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            found = _find(module, node.id)
            value = None if found is None else _assigned(found.node)
            return node if found is None or value is None else _expression(_type_text(found.module, value))

    return ast.unparse(WriteOut().visit(_expression(ast.unparse(annotation))))


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _value(module: str, expression: ast.expr) -> Any:
    """The value of a default: a literal, or a name that stands for one."""
    if isinstance(expression, ast.Name):
        found = _find(module, expression.id)
        value = None if found is None else _assigned(found.node)
        if found is None or value is None:
            raise ValueError(f"{module}: the default {expression.id} is neither a literal nor a name of one")
        return _value(found.module, value)
    return ast.literal_eval(expression)


def _assigned(statement: ast.stmt) -> ast.expr | None:
    return statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None


def _find(module: str, name: str) -> _Definition | None:
    """Where a name of a module is defined, followed through imports within its package and this one; None outside."""
    node = _definitions(module).get(name)
    if isinstance(node, ast.ImportFrom):
        if (node.module or "").split(".")[0] not in (ROOT.name, module.split(".")[0]):
            return None
        original = next(one.name for one in node.names if name in (one.asname, one.name))
        return _find(node.module or "", original)
    return None if node is None else _Definition(module, node)


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The top-level names of a module and the statements that define them."""
    path = _source(module)
    if path is None:
        return {}
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found[node.name] = node
            case ast.ImportFrom():
                found |= {one.asname or one.name: node for one in node.names}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
    return found


def _source(module: str) -> Path | None:
    """The file of a module of this package, or of a stage outside of it."""
    package, *parts = module.split(".")
    if package == ROOT.name:
        folder = ROOT.joinpath(*parts)
        return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    found = find_spec(module)
    return Path(found.origin) if found and found.has_location and found.origin else None
