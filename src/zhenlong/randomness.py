"""Every source of random numbers: seeded together, captured and restored together."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators, those of the CUDA devices included."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  other libraries draw from the global generator
    torch.manual_seed(seed)


def derived_seed(seed: int, *names: str | int) -> int:
    """A seed below 2^63 that depends on `seed` and on every name, and on nothing else."""
    digest = hashlib.sha256("\0".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def random_state() -> dict[str, Any]:
    """The states of the global generators, as a checkpoint can hold them."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy_state = np.random.get_state()  # noqa: NPY002
    return {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the global generators back to where `random_state` saw them."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def eval_mode(*modules: torch.nn.Module) -> Iterator[None]:
    """Evaluate or sample in here: eval mode, no gradients; afterwards modes and random states are as they were.

    So evaluation never changes the next training step, however many random numbers it draws. Modes are kept for each
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
