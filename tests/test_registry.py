"""The registry is the one list of stages and tools: what it says exists, and who reads it needs no other list."""

import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zhenlong
from zhenlong import registry
from zhenlong.api.generate import generated_files, stub_source
from zhenlong.api.public_names import CALLABLE_PACKAGES, targets
from zhenlong.cli import main
from zhenlong.registry import ENTRIES, Entry
from zhenlong.stages.recipe import run

SOURCE = Path(zhenlong.__file__).parent


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_names_the_function_where_it_is_defined(entry):
    for target in filter(None, (entry.target, entry.step_target)):
        function = registry.load_target(target)
        assert f"{function.__module__}:{function.__name__}" == target
        assert all(one.annotation is not one.empty for one in inspect.signature(function).parameters.values())


def test_names_are_unique():
    assert len({one.name for one in ENTRIES}) == len({one.python_name for one in ENTRIES}) == len(ENTRIES)
    assert all(one.label for one in ENTRIES if one.step == "stage")


IMITATING = '''
from pathlib import Path


def imitate(*, model: str, output: str, steps: int = 3, seed: int = 0) -> Path:
    """Imitate a model.

    Args:
        model: The model.
        output: Run folder.
        steps: Steps to take.
        seed: Seed.
    """
    Path(output).mkdir(parents=True)
    (Path(output) / "settings.txt").write_text(f"model: {model}, steps: {steps}")
    return Path(output)
'''


@pytest.fixture
def new_stage(monkeypatch, tmp_path):
    """A stage in a module of its own, registered by one entry."""
    (tmp_path / "imitating.py").write_text(IMITATING)
    monkeypatch.syspath_prepend(tmp_path)
    entry = Entry("imitate", "imitating:imitate", "imitate a model", "train", "data", label="Imitation")
    monkeypatch.setattr(registry, "ENTRIES", (*ENTRIES, entry))
    yield
    sys.modules.pop("imitating", None)


def test_one_entry_makes_a_command_a_recipe_step_and_a_public_name(new_stage, tmp_path, capsys):
    main(["--help"])
    assert re.search(r"^  imitate +imitate a model$", capsys.readouterr().out, re.MULTILINE)
    assert zhenlong.imitate(model="m", output=str(tmp_path / "python")) == tmp_path / "python"
    recipe = {"arguments": {"output": str(tmp_path / "recipe")}, "steps": [{"imitate": {"model": "m", "steps": 7}}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run(str(tmp_path / "recipe.yaml"))
    assert "steps: 7" in (tmp_path / "recipe" / "imitate" / "settings.txt").read_text()


def test_no_other_file_of_the_package_lists_the_stages():
    """A second list would be one more place to touch: no file but the registry names most of the stages as text."""
    names = set(registry.stages())
    for path in SOURCE.rglob("*.py"):
        if path.name != "registry.py":
            found = set(re.findall(r"[\"'](\w+)[\"']", path.read_text(encoding="utf-8"))) & names
            assert len(found) < len(names) / 2, f"{path} lists {sorted(found)}"


@pytest.mark.parametrize("path", generated_files(), ids=lambda path: path.name)
def test_what_type_checkers_read_is_up_to_date(path):
    assert path.read_text(encoding="utf-8") == generated_files()[path], "run python -m zhenlong.api.generate"


def test_every_public_name_is_there():
    assert zhenlong.__all__ == dir(zhenlong) == sorted(targets())
    assert all(callable(getattr(zhenlong, name)) for name in zhenlong.__all__)
    assert zhenlong.__version__ == importlib.metadata.version("zhenlong")
    with pytest.raises(AttributeError, match="has no attribute 'dop'"):
        _ = zhenlong.dop


@pytest.mark.parametrize(
    "first", ["import zhenlong.evaluate.run", "import zhenlong", "from zhenlong.evaluate import perplexity"]
)
def test_a_package_of_a_tools_name_is_the_tool_whatever_was_imported_first(first):
    """`zhenlong.evaluate` is one object, package and tool."""
    code = f"""{first}
import inspect, sys, zhenlong
from zhenlong.evaluate import perplexity
from zhenlong.registry import commands
assert zhenlong.evaluate is sys.modules["zhenlong.evaluate"], zhenlong.evaluate
for name in ("evaluate", "report"):
    assert inspect.signature(getattr(zhenlong, name)) == inspect.signature(commands()[name].load())
try:
    zhenlong.report("nowhere")
except zhenlong.UserError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("nowhere: no such folder")


def test_every_tool_that_shares_its_name_with_a_package_is_known():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")} | {path.stem for path in SOURCE.glob("*.py")}
    assert packages & set(targets()) == set(CALLABLE_PACKAGES)


def test_the_import_and_the_overview_load_nothing_heavy():
    heavy = ["torch", "transformers", "numpy", "yaml", "rich", "jsonargparse"]
    code = f"import sys, zhenlong.cli; zhenlong.cli.main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_the_page_on_python_names_every_public_name_but_stages_which_have_their_own_pages():
    named = set(re.findall(r"`(\w+)`", (SOURCE.parents[1] / "docs" / "python.md").read_text(encoding="utf-8")))
    assert set(targets()) - set(registry.stages()) <= named


def test_type_checkers_see_every_public_name_and_a_package_of_a_tools_name_as_the_tool(tmp_path):
    """As mypy reads the stub, where each function stands in a module that holds nothing else."""
    mypy = pytest.importorskip("mypy.api")
    root = tmp_path / "zhenlong"
    for module, name in sorted(target.split(":") for target in targets().values()):
        file = tmp_path.joinpath(*module.split("."))
        file = (
            file / "__init__.pyi" if (SOURCE.parent.joinpath(*module.split("."))).is_dir() else file.with_suffix(".pyi")
        )
        for folder in file.parents[: len(file.relative_to(root).parts)]:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.pyi").touch()
        with file.open("a") as stub:
            stub.write(f"def {name}(*, given: str) -> None: ...\n")
    (root / "__init__.pyi").write_text(stub_source())
    names = sorted({*targets(), "dop"})
    calls = "\n".join(f"zhenlong.{name}(given=3)" for name in names)
    (tmp_path / "program.py").write_text(f"import zhenlong\nimport zhenlong.evaluate.compare\n{calls}\n")
    said, _, _ = mypy.run([str(tmp_path / "program.py"), "--config-file=", f"--cache-dir={tmp_path / 'cache'}"])
    errors = {int(line): code for line, code in re.findall(r"program\.py:(\d+): error: .*\[(\S+)\]", said)}
    expected = {name: "attr-defined" if name == "dop" else "arg-type" for name in names}
    assert errors == dict(enumerate(expected.values(), 3)), said
