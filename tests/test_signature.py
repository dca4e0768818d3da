"""What is read from the source without importing it is what the function takes; every option is there once, typed."""

import inspect
from importlib import import_module
from typing import get_type_hints

import pytest

from zhenlong.generate_option_types import FAMILIES, TARGET, option_types
from zhenlong.registry import commands, load_target
from zhenlong.signature import REQUIRED, options_classes, read_signature

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


def test_the_types_of_options_are_those_of_the_classes():
    assert TARGET.read_text(encoding="utf-8") == option_types(), "run python -m zhenlong.generate_option_types"
    assert FAMILIES


def test_every_option_of_a_command_is_listed_once():
    for target in COMMANDS.values():
        names = read_signature(target).names
        assert len(set(names)) == len(names)
