"""Tests that compare with another library: skipped where it is not installed, failed where it has to be."""

import importlib
import importlib.util

import pytest


def need(name: str, required: bool) -> None:
    """Import the library; where it is not installed, fail if it is `required` and skip the test if it is not.

    One that is installed and cannot be imported raises what it raises.
    """
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name)
    elif required:
        pytest.fail(f"{name} is not installed, and --peers-required was given", pytrace=False)
    else:
        pytest.skip(f"{name} is not installed: make test-peers compares with it")
