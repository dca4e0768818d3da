"""The pages say what is there: options and defaults, commands, imports, links, and examples that run."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from typing import Any

import pytest
from pages import PAGES, ROOT, anchors, fences, links, option_table
from tiny import tiny_model, tiny_tokenizer
from walkthrough import blocks

from zhenlong.api.generate import CLASSES
from zhenlong.evaluate.metrics import registry
from zhenlong.models import save_model
from zhenlong.options.signature import read_options, read_signature
from zhenlong.registry import commands, stages

STAGES = tuple(stages())
COMMANDS = commands()
TAKEN = {option.options_class for name in STAGES for option in read_signature(COMMANDS[name].target).parameters}
SHARED = {
    option.name: option.default for path in CLASSES if path.partition(":")[2] in TAKEN for option in read_options(path)
}
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
RUNNABLE = [CONTRIBUTING, ROOT / "docs" / "forest.md", ROOT / "docs" / "models.md"]


def own_options(name: str) -> dict[str, Any]:
    """The options that only this stage has, and the shared ones of which it has another default; Ellipsis for none."""
    parameters = read_signature(COMMANDS[name].target).parameters
    return {p.name: p.default for p in parameters if not p.options_class or p.default != SHARED[p.name]}


def options(name: str) -> set[str]:
    """All options of a stage."""
    return set(read_signature(COMMANDS[name].target).names)


@pytest.mark.parametrize("name", STAGES)
def test_a_stages_page_lists_its_own_options_with_their_defaults(name):
    assert option_table(ROOT / "docs" / "stages" / f"{name}.md") == own_options(name)


def test_the_page_of_shared_options_lists_them_all_with_their_defaults():
    assert option_table(ROOT / "docs" / "stages" / "options.md") == SHARED


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_points_to_something(page):
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_exists_and_has_the_options_that_are_shown(page):
    for line in "\n".join(fences(page, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["zhenlong"] or words[1:2] in ([], ["--help"]):
            continue
        name = words[1].replace("-", "_")
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS else name
        assert name in COMMANDS, line
        if name in STAGES:
            known = {*options(name), "config", "help", "print_config"}
            asked = {word.removeprefix("--").split("=")[0] for word in words[2:] if word.startswith("--")}
            assert asked <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_on_the_pages_imports_what_exists_and_calls_stages_with_options_they_have(page):
    for block in fences(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zhenlong"):
                module = import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func).removeprefix("zhenlong.")) in STAGES:
                asked = {keyword.arg for keyword in node.keywords}
                assert asked <= options(called), ast.unparse(node)


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_examples_run(page, tmp_path, monkeypatch):
    """Each page's blocks run one after the other where `runs/sft` holds a model; their asserts are their results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_METRICS", dict(registry.all_metrics()))  # what a page registers ends with it
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "runs" / "sft" / "model")
    found: dict[str, Any] = {"__name__": "example"}
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), found)  # the page is the project's own
    assert len(found) > 1


def test_what_contributing_tells_to_touch_is_there():
    text = CONTRIBUTING.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
    named = re.findall(r"((?:`\w+`(?:, | and | or (?:, for `[^`]+`, )?)?)+) in\s+`(src/[\w./]+)`", text)
    assert len(named) >= 8
    for names, path in named:
        code = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(def )?{name}\b", code, re.MULTILINE), f"{name} in {path}"


def test_the_make_targets_of_contributing_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = set(re.findall(r"(?:`|^)make ([\w-]+)", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE))
    rules = re.findall(r"^([\w -]+?):.*##", makefile, re.MULTILINE)
    assert {"test", "check", "docs"} <= asked <= {target for rule in rules for target in rule.split()}


def test_the_index_leads_to_every_page():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / path).resolve() for path, _ in links(index)}
    assert set(ROOT.glob("docs/**/*.md")) - {index} <= linked


def test_the_changelog_begins_with_the_packages_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    first = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version
    assert first
    assert first[1] == version[1].partition(".dev")[0]
