"""The tiny model and data files that every stage's test trains on."""

import pytest
from tiny_files import write_files


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, str]:
    """Names of a model folder and of files with rows of every kind."""
    return write_files(tmp_path_factory.mktemp("files"))
