"""What is read from the source without importing it is what the function takes; every option is there once, typed."""

import inspect
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

import zhenlong
from zhenlong.options import keywords as option_keywords
from zhenlong.options.signature import REQUIRED, options_classes, read_signature
from zhenlong.registry import commands, load_target

COMMANDS = {name: entry.target for name, entry in commands().items() if name != "run"}
TAKING = {name: target for name, target in COMMANDS.items() if options_classes(target)}


@pytest.mark.parametrize("name", COMMANDS)
def test_names_and_defaults_of_a_command_are_those_of_the_function(name):
    function, signature = load_target(COMMANDS[name]), read_signature(COMMANDS[name])
    parameters = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
    own = {one.name: one for one in signature.parameters if not one.options_class}
    assert {name: one.default for name, one in own.items()} == {
        one.name: REQUIRED if one.default is one.empty else one.default for one in parameters
    }
    assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        one.name for one in own.values() if one.by_position
    ]
    assert signature.summary == inspect.getdoc(function).split("\n")[0]


@pytest.mark.parametrize("name", TAKING)
def test_shared_options_and_defaults_are_those_that_the_command_takes(name, monkeypatch):
    """The command is called up to its `take_options`, which tells the instances that it was given."""
    function, signature = load_target(TAKING[name]), read_signature(TAKING[name])
    taken = {}

    class Stop(Exception):
        pass

    def tell(given, *defaults):
        taken.update({field: value for one in defaults for field, value in one.as_dict().items()})
        raise Stop

    monkeypatch.setattr(import_module(function.__module__), "take_options", tell)
    required = {one.name: "x" for one in signature.parameters if one.default is REQUIRED}
    with pytest.raises(Stop):
        function(**required)
    assert {one.name: one.default for one in signature.parameters if one.options_class} == taken


@pytest.mark.parametrize("name", TAKING)
def test_a_type_checker_knows_the_shared_options_of_a_command(name):
    function, signature = load_target(TAKING[name]), read_signature(TAKING[name])
    (keywords,) = get_type_hints(function)["options"].__args__
    assert set(get_type_hints(keywords)) == {one.name for one in signature.parameters if one.options_class}


def test_no_help_of_an_option_is_written_twice():
    """The same words for the same option in several commands come from one class, or from the shared arguments."""
    places = defaultdict(set)
    for target in COMMANDS.values():
        for one in read_signature(target).parameters:
            places[one.name, one.help].add(one.place)
    assert {key: where for key, where in places.items() if len(where) > 1} == {}


def test_every_option_of_a_command_is_listed_once():
    for target in COMMANDS.values():
        names = read_signature(target).names
        assert len(set(names)) == len(names)


def test_help_of_every_command_imports_no_module_of_a_room():
    """In a process of its own: what is imported is the command line alone, so help answers at once."""
    program = """
import sys
from zhenlong.cli import main
for words in ["--help"], *(name.split() + ["--help"] for name in sys.argv[1:]):
    try:
        main(words)
    except SystemExit as stop:
        assert stop.code == 0
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("zhenlong.")}
print(sorted(rooms), [name for name in ("torch", "transformers", "numpy", "jsonargparse") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program, *COMMANDS], capture_output=True, text=True, check=True)
    rooms, libraries = re.fullmatch(r"\[(.*)\] \[(.*)\]", done.stdout.splitlines()[-1]).groups()
    assert libraries == ""
    packages = {path.name for path in Path(zhenlong.__file__).parent.iterdir() if (path / "__init__.py").is_file()}
    assert set(re.findall(r"\w+", rooms)) & packages <= {"api", "cli", "options", "recipes"}
    for name in COMMANDS:
        assert f"usage: zhenlong {name} " in done.stdout


@pytest.mark.parametrize("name", ["sft", "dpo", "grpo", "evaluate"])
def test_a_wrong_name_or_type_of_an_option_is_a_type_error(name, tmp_path):
    """The command's own parameters and its `**options`, as mypy sees them in a program that calls it."""
    signature, keywords = read_signature(COMMANDS[name]), keywords_of(name)
    own = [f"{one.name}: {one.type} = ..." for one in signature.parameters if not one.options_class]
    shutil.copy(option_keywords.__file__, tmp_path / "keywords.py")
    (tmp_path / "program.py").write_text(
        "from collections.abc import Sequence\n"
        "from typing import Literal\n"
        "from typing_extensions import Unpack\n"
        f"from keywords import {keywords}\n"
        f"def command(*, {', '.join(own)}, **options: Unpack[{keywords}]) -> None: ...  # type: ignore\n"
        'command(output="x", seed=3, tokens_per_microbatch=512, progress=False)\n'
        "command(sed=3)\n"
        'command(seed="three")\n'
    )
    api = pytest.importorskip("mypy.api")  # make test has mypy; the environment of test-peers has not
    said, _, _ = api.run([str(tmp_path / "program.py"), "--config-file=", f"--cache-dir={tmp_path / 'cache'}"])
    lines = said.splitlines()
    assert 'program.py:7: error: Unexpected keyword argument "sed"' in lines[0]
    assert 'program.py:8: error: Argument "seed"' in next(line for line in lines if "program.py:8" in line)
    assert not any("program.py:6" in line for line in lines)


def keywords_of(name):
    """The name of the TypedDict that the command's `**options` have."""
    return inspect.signature(load_target(COMMANDS[name])).parameters["options"].annotation[len("Unpack[") : -1]
