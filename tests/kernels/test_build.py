"""The kernels are compiled once and written atomically; without a compiler PyTorch is used, with one warning."""

import subprocess
import sys
import warnings

import pytest

from zhenlong.kernels import build

needs_compiler = pytest.mark.skipif(build.load_library() is None, reason="no C compiler here")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A state as in a new process with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(build.ENV_VARIABLE, raising=False)
    build._load_library.cache_clear()
    yield tmp_path / "zhenlong"
    build._load_library.cache_clear()


@needs_compiler
def test_the_library_is_compiled_once_and_reused(fresh, monkeypatch):
    assert build.load_library() is not None
    (made,) = fresh.iterdir()
    build._load_library.cache_clear()

    def refuse(*_, **__):
        raise AssertionError("compiled again")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert build.load_library() is not None
    assert list(fresh.iterdir()) == [made]


@needs_compiler
def test_another_processor_gets_another_library(fresh, monkeypatch):
    build.load_library()
    build._load_library.cache_clear()
    monkeypatch.setattr(build, "_cpu_description", lambda: "another one")
    build.load_library()
    assert len(list(fresh.iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are compiled on Linux only")
@pytest.mark.parametrize(("compiler", "message"), [
    ("false", "false failed: code 1"), ("/nowhere/cc", "No such file"),
])  # fmt: skip
def test_a_failing_compiler_warns_once_and_leaves_everything_to_torch(fresh, monkeypatch, compiler, message):
    monkeypatch.setenv("CC", compiler)
    with pytest.warns(UserWarning, match=message):
        assert build.load_library() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build.load_library() is None
    assert not list(fresh.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are compiled on Linux only")
def test_without_a_compiler_the_warning_says_what_to_install(fresh, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match="apt install gcc"):
        assert build.load_library() is None


def test_the_environment_variable_disables_kernels_without_a_warning(fresh, monkeypatch):
    monkeypatch.setenv(build.ENV_VARIABLE, "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build.load_library() is None


@needs_compiler
def test_a_cache_folder_that_is_not_writable_is_replaced_by_a_temporary_one(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build.load_library() is not None


@needs_compiler
def test_kernels_are_compiled_without_a_home_directory(fresh, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(build.Path, "home", homeless)
    assert build.load_library() is not None
