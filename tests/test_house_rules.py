"""No function takes more than six parameters, no `partial` binds more than three, a public name has one definition.

Options objects do not count, and neither do `self`, `cls` and `ctx`. The parameters of a command are its options, and a
Triton kernel has to take every pointer and stride: both are exempt.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import zhenlong
from zhenlong.registry import ENTRIES

ROOT = Path(zhenlong.__file__).parent
MAX_PARAMETERS: Final = 6
MAX_BOUND: Final = 3
# A parameter whose class ends like this is an options object.
OPTIONS_ENDINGS: Final = ("Options", "Settings", "Params")
RECEIVERS: Final = ("self", "cls", "ctx")


def python_files(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def is_options_object(annotation: ast.expr | None) -> bool:
    """Whether the annotation names an options class, which may be optional: `SamplingParams | None`."""
    names = ast.unparse(annotation).strip("'").split(" | ") if annotation else []
    return any(name.endswith(OPTIONS_ENDINGS) for name in names)


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters that are no options objects; `*args` and `**kwargs` count as one each, unless they are unpacked."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    named = named[1:] if named and named[0].arg in RECEIVERS else named
    rest = [one for one in (given.vararg, given.kwarg) if one and "Unpack[" not in ast.unparse(one)]
    return sum(not is_options_object(one.annotation) for one in (*named, *rest))


def is_triton_kernel(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(one).startswith("triton.jit") for one in function.decorator_list)


def long_signatures(root: Path) -> set[str]:
    commands = {tuple(target.split(":")) for one in ENTRIES for target in (one.target, one.step_target) if target}
    found = set()
    for path, tree in python_files(root):
        module = f"{root.name}.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_triton_kernel(node):
                continue
            if (module, node.name) not in commands and num_parameters(node) > MAX_PARAMETERS:
                found.add(f"parameters: {path} {node.name}")
    return found


def large_partials(root: Path) -> set[str]:
    return {
        f"partial: {path} {ast.unparse(node.args[0])}"
        for path, tree in python_files(root)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("partial", "functools.partial")
        and len(node.args) - 1 + len(node.keywords) > MAX_BOUND
    }


def public_names(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and constants that a module defines; a type variable says nothing by its name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            is_type_variable = isinstance(node.value, ast.Call) and "TypeVar" in ast.unparse(node.value.func)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [] if is_type_variable else [one.id for one in targets if isinstance(one, ast.Name)]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def names_with_two_definitions(root: Path) -> set[str]:
    modules: dict[str, set[str]] = defaultdict(set)
    for path, tree in python_files(root):
        for name in public_names(tree):
            modules[name].add(path)
    return {f"name: {name}" for name, paths in modules.items() if len(paths) > 1}


@pytest.mark.parametrize("find", [long_signatures, large_partials, names_with_two_definitions])
def test_the_package_keeps_the_rule(find):
    assert sorted(find(ROOT)) == []


@pytest.mark.parametrize(
    ("find", "kept", "broken"),
    [
        (long_signatures, "def f(a, b, c, d, e, g, o: XOptions): ...", "def f(a, b, c, *, d, e, g, h): ..."),
        (long_signatures, "class A:\n def f(self, a, b, c, d, e, g): ...", "def f(a, b, c, d, e, g, **rest): ..."),
        (
            long_signatures,
            "def f(a, b, c, d, e, g, o: 'P.XParams | None'): ...",
            "def f(o: int, a, b, c, d, e, g): ...",
        ),
        (large_partials, "f = partial(g, 1, 2, x=3)", "def h():\n return functools.partial(g, 1, 2, x=3, y=4)"),
        (names_with_two_definitions, "_f = 1\ndef other(): ...", "def f(): ..."),
        (names_with_two_definitions, "T = TypeVar('T')\nS = T", "X: int = 3"),
    ],
)
def test_a_breach_is_found(find, kept, broken, tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "a.py").write_text("X = 1\n_f = 1\nT = TypeVar('T')\nclass f: ...\n")
    (package / "b.py").write_text(kept)
    assert find(package) == set()
    (package / "b.py").write_text(broken)
    assert len(find(package)) == 1
