"""The kernels are compiled once, appear whole, and their absence is told and harmless."""

import subprocess
import sys
import warnings

import pytest

from zhenlong.kernels import build

needs_compiler = pytest.mark.skipif(build.load_library() is None, reason="no C compiler here")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a new process with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(build.ENV_VARIABLE, raising=False)
    build._load_library.cache_clear()
    yield tmp_path / "zhenlong"
    build._load_library.cache_clear()


@needs_compiler
def test_the_library_is_made_once_and_found_again(fresh, monkeypatch):
    assert build.load_library() is not None
    (made,) = fresh.iterdir()
    build._load_library.cache_clear()

    def refuse(*_, **__):
        raise AssertionError("compiled again")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert build.load_library() is not None
    assert list(fresh.iterdir()) == [made]


@needs_compiler
def test_another_processor_gets_a_library_of_its_own(fresh, monkeypatch):
    build.load_library()
    build._load_library.cache_clear()
    monkeypatch.setattr(build, "_cpu_description", lambda: "another one")
    build.load_library()
    assert len(list(fresh.iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no compiler is looked for")
@pytest.mark.parametrize(("compiler", "told"), [
    ("false", "false failed: code 1"), ("/nowhere/cc", "No such file"),
])  # fmt: skip
def test_a_compiler_that_fails_is_told_once_and_leaves_everything_to_torch(fresh, monkeypatch, compiler, told):
    monkeypatch.setenv("CC", compiler)
    with pytest.warns(UserWarning, match=told):
        assert build.load_library() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build.load_library() is None
    assert not list(fresh.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no compiler is looked for")
def test_a_machine_without_a_compiler_is_told_what_to_install(fresh, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match="apt install gcc"):
        assert build.load_library() is None


def test_the_switch_in_the_environment_leaves_everything_to_torch(fresh, monkeypatch):
    monkeypatch.setenv(build.ENV_VARIABLE, "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build.load_library() is None


@needs_compiler
def test_a_cache_that_cannot_be_written_is_replaced_by_a_folder_for_now(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build.load_library() is not None


@needs_compiler
def test_a_user_without_a_home_has_kernels_too(fresh, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(build.Path, "home", homeless)
    assert build.load_library() is not None
