"""Comparisons with other libraries: a missing library is a skip, or where it is required a failure."""

import sys

import pytest
from peers import need


def test_a_missing_library_skips_the_test():
    with pytest.raises(pytest.skip.Exception, match="no_such_library is not installed"):
        need("no_such_library", required=False)


def test_where_it_is_required_it_fails_the_test():
    with pytest.raises(pytest.fail.Exception, match="no_such_library is not installed"):
        need("no_such_library", required=True)


@pytest.mark.parametrize("required", [False, True])
def test_a_broken_library_is_never_a_skip(required, tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        need("broken_library", required)


def test_an_installed_library_is_imported(tmp_path, monkeypatch):
    (tmp_path / "whole_library.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    need("whole_library", required=True)
    assert sys.modules.pop("whole_library")
