"""Models and data sets of the Hugging Face hub: downloaded once, then read from huggingface_hub's cache.

Without a network huggingface_hub retries for a minute; here one short request says first whether the hub answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from zhenlong.errors import UserError

T = TypeVar("T")
CONNECT_SECONDS: Final = 4.0
MODEL_FILES: Final = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""What a model folder needs: no pickles, no code, no other formats of the same weights."""


@cache
def download_model(name: str) -> Path:
    """The local folder of a hub model `owner/name`: downloaded, or from the cache where the hub does not answer.

    Only the files at the top of the repository. Raises `UserError` in one line.
    """
    from huggingface_hub import snapshot_download

    def load(only_cached: bool) -> str:
        return snapshot_download(
            name, allow_patterns=list(MODEL_FILES), ignore_patterns=["*/*"], local_files_only=only_cached
        )

    return Path(load_from_hub(f"model {name}", load))


def load_from_hub(what: str, load: Callable[[bool], T]) -> T:
    """`load(only_cached)` of what the hub has, only from the cache where the hub does not answer.

    Raises `UserError` that begins with `what` for anything that goes wrong.
    """
    problem = connection_problem()
    try:
        with _offline() if problem else nullcontext():
            return load(problem is not None)
    except UserError:
        raise
    except Exception as error:  # huggingface_hub, its HTTP client and datasets have dozens of classes
        if problem is not None:
            raise UserError(
                f"{what}: not in the cache, and {problem}; connect, or give a folder on this machine"
            ) from None
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{what}: cannot be loaded from the hub: {reason}; check the name and the network") from None


@contextmanager
def _offline() -> Iterator[None]:
    """No requests inside: huggingface_hub and datasets ask the hub even for what they may take from the cache."""
    from huggingface_hub import constants

    settings: list[Any] = [constants, *([sys.modules["datasets.config"]] if "datasets.config" in sys.modules else [])]
    before = [one.HF_HUB_OFFLINE for one in settings]
    try:
        for one in settings:
            one.HF_HUB_OFFLINE = True
        yield
    finally:
        for one, value in zip(settings, before, strict=True):
            one.HF_HUB_OFFLINE = value


@cache
def connection_problem() -> str | None:
    """Why the hub cannot be asked, None if it answers; tried once in a process."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except Exception:  # any failure means the same: no answer
        return f"the hub ({constants.ENDPOINT}) does not answer"
    return None
