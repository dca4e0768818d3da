"""The wheel holds the whole package: what is no Python file too."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "zhenlong"
NOT_SHIPPED = {".pyc", ".so"}


@pytest.fixture(scope="module")
def wheel_files():
    """Path in the wheel -> file, by the build backend's own selection."""
    wheel = pytest.importorskip("hatchling.builders.wheel")
    return {one.distribution_path: Path(one.path) for one in wheel.WheelBuilder(str(ROOT)).recurse_included_files()}


def test_the_wheel_holds_every_file_of_the_package(wheel_files):
    expected = {
        path.relative_to(ROOT / "src").as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in NOT_SHIPPED and "__pycache__" not in path.parts
    }
    assert expected <= set(wheel_files)


def test_what_runs_without_the_repository_is_in_it(wheel_files):
    shipped = set(wheel_files)
    for name in ("py.typed", "__init__.pyi", "recipes/demo.yaml", "report/templates/report.html.j2",
                 "kernels/attention.c",
                 "feedback/constitution.yaml", "evaluate/scenarios/maths/gsm8k.yaml", "models/pocket/model.safetensors",
                 "evaluate/perturb/attack_templates/go_list.txt"):  # fmt: skip
        assert f"zhenlong/{name}" in shipped
    assert all(name.startswith("zhenlong/") for name in shipped)


def test_no_recipe_is_left_outside_the_package():
    assert not (ROOT / "recipes").exists()
