"""Imports have no cycle, inside functions and under TYPE_CHECKING included, and stages do not import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import zhenlong

ROOT = Path(zhenlong.__file__).parent
# self_reward runs dpo as a user would; a recipe runs them all
MAY_IMPORT_STAGES = {"self_reward": {"dpo"}, "recipe": None}


def module_files(root: Path) -> dict[str, Path]:
    """Each module's dotted name and file; a package is named like its folder."""
    return {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }


def imported_names(name: str, path: Path) -> Iterator[str]:
    """Every dotted name that a file imports, wherever in it; `from a import b` is `a.b`."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            for alias in node.names:
                yield ".".join([*above, *([node.module] if node.module else []), alias.name])


def import_graph(root: Path) -> dict[str, set[str]]:
    """For each module of a package the other modules of the package that its file imports."""
    files = module_files(root)
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found = (one if one in files else one.rpartition(".")[0] for one in imported_names(name, path))
        graph[name] = {one for one in found if one in files and one != name}
    return graph


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """A path from a module back to itself; empty where there is none."""
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in finished:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*path, name]):
                return found
        finished.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def test_no_module_imports_itself_by_way_of_others():
    assert find_cycle(import_graph(ROOT)) == []


@pytest.mark.parametrize(
    "back",
    [
        "from pack import a",
        "def f():\n    from pack.a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a",
        "import pack.a",
    ],
)
def test_a_cycle_is_found_wherever_the_import_stands(back, tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from pack.b import y\nx = 1\n")
    (package / "b.py").write_text("y = 1\n")
    assert find_cycle(import_graph(package)) == []
    (package / "b.py").write_text(f"{back}\ny = 1\n")
    assert find_cycle(import_graph(package)) == ["pack.a", "pack.b", "pack.a"]


def test_no_stage_imports_another():
    graph = import_graph(ROOT)
    stages = {
        path.stem
        for path in (ROOT / "stages").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == path.stem
    }
    assert {"dpo", "sft", "grpo"} <= stages
    for path in (ROOT / "stages").glob("*.py"):
        allowed = MAY_IMPORT_STAGES.get(path.stem, set())
        if allowed is not None:
            own = graph.get(f"zhenlong.stages.{path.stem}", set())
            imported = {one for one in stages if f"zhenlong.stages.{one}" in own}
            assert imported <= allowed, path.stem
