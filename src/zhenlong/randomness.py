"""Seeding, saving and restoring all random number generators."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch, including those of CUDA devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  other libraries draw from the global generator
    torch.manual_seed(seed)


def derived_seed(seed: int, *names: str | int) -> int:
    """A seed below 2^63 that depends on `seed` and the names only."""
    digest = hashlib.sha256("\0".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def random_state() -> dict[str, Any]:
    """The states of the global generators, in a form that a checkpoint can hold."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy_state = np.random.get_state()  # noqa: NPY002
    return {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set the global generators to the states that `random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def eval_mode(*modules: torch.nn.Module) -> Iterator[None]:
    """Evaluate or sample inside: eval mode, no gradients; afterwards modes and random states are restored.

    So evaluation never changes the next training step, however many random numbers it uses. Modes are restored per
    submodule: a part that was frozen in eval mode stays in it.
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    state = random_state()
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        restore_random_state(state)
