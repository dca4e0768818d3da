"""Shared fixtures. One thread a worker: two workers fill the two cores and results do not depend on the machine."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from peers import need

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read where Triton is first imported

from zhenlong.kernels.build import kernels_disabled, load_library

torch.set_num_threads(1)
DATASETS = Path(__file__).resolve().parents[2] / "shared" / "datasets"


def pytest_addoption(parser):
    parser.addoption("--peers-required", action="store_true", help="fail where a library to compare with is missing")


def pytest_runtest_setup(item):
    """Before any fixture, for some import the library too."""
    for marker in item.iter_markers("peers"):
        for name in marker.args:
            need(name, item.config.getoption("peers_required"))


@pytest.fixture(scope="session")
def datasets_folder() -> Path:
    """The real data sets; a test that needs them is marked `real_data` and skipped where they are not."""
    if not DATASETS.is_dir():
        pytest.skip("the real data sets are not here")
    return DATASETS


@pytest.fixture(params=["compiled kernels", "torch's operations"])
def kernels(request):
    """A test that uses it runs with the compiled kernels, where they can be had, and without them."""
    if request.param.startswith("compiled"):
        if load_library() is None:
            pytest.skip("no C compiler here")
        yield
    else:
        with kernels_disabled():
            yield
