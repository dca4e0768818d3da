"""A backend in place of a model's weights."""

import pytest


@pytest.fixture
def stand_in(monkeypatch):
    """Every model that feedback asks is the given backend, whatever its name."""

    def use(backend):
        monkeypatch.setattr("zhenlong.inference.model_client.load_backend", lambda model, cache, **how: backend)
        monkeypatch.setattr("zhenlong.inference.model_client.resolve_model_path", lambda name: name)
        return backend

    return use
