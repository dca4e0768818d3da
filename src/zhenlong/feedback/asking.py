"""Models that are asked for feedback, by name: local ones and endpoints alike, every answer kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zhenlong.evaluate.adapters.request import Generate
from zhenlong.evaluate.outcome import Output
from zhenlong.evaluate.runner.backend import ENDPOINT, Backend, backend_of
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.evaluate.runner.drive import replies
from zhenlong.evaluate.runner.judge import ModelJudge
from zhenlong.evaluate.subject import Subject
from zhenlong.models.names import resolve
from zhenlong.records import Messages


@dataclass(frozen=True)
class Asked:
    """A model that answers conversations: `judge` one answer each (`zhenlong.evaluate.outcome.Judge`)."""

    judge: ModelJudge
    backend: Backend
    cache: Cache

    @property
    def name(self) -> str:
        """How the model was named."""
        return self.backend.name

    def answers(
        self, prompts: Sequence[Messages], *, n: int, max_tokens: int, temperature: float, seed: int
    ) -> list[tuple[Output, ...]]:
        """`n` sampled answers to each prompt; none where it does not fit the context, or the endpoint failed."""

        def request(place: int) -> Generate:
            return Generate(prompts[place], max_tokens, temperature, n=n, seed=seed + place if temperature else 0)

        return replies(prompts, self.backend, self.cache, request, room=max_tokens)


def asked(
    model: Subject | Backend,
    cache: Cache,
    *,
    chat_template: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    max_rows: int = 64,
    name: str = "",
) -> Asked:
    """A model by name, loaded pair or backend, whose answers `cache` keeps."""
    backend = backend_of(
        model, cache, name=name, chat_template=chat_template, device=device, dtype=dtype, max_rows=max_rows
    )
    return Asked(ModelJudge(backend, cache), backend, cache)


def require_models(*names: str) -> None:
    """Raise `UserError` for a model that is not there, before anything is written; "" names none."""
    for name in names:
        if name and not name.startswith(ENDPOINT):
            resolve(name)


def whole(outputs: Sequence[Output]) -> tuple[str, ...]:
    """The different answers that say something and were not cut off."""
    return tuple(dict.fromkeys(one.text for one in outputs if one.text.strip() and not one.truncated))


def file_and_cache(output: str, name: str, cache: str = "") -> tuple[Path, Path]:
    """The .jsonl file that `output` means (`name` in it, where it is a folder), and the file of the answers.

    The folder is made, so that answers can be kept.
    """
    path = Path(output) if output.endswith(".jsonl") else Path(output) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, Path(cache) if cache else path.with_suffix(".cache.sqlite")
