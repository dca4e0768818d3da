"""Models that are asked for feedback, by name: local ones and endpoints alike, every answer kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zhenlong.inference.backend import Backend
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.execute import generate_outputs
from zhenlong.inference.judge_client import ModelJudge
from zhenlong.inference.requests import GeneratedOutput, GenerateRequest
from zhenlong.models.model_argument import ModelLike
from zhenlong.models.resolve import resolve_model_path
from zhenlong.records import Messages

ENDPOINT_PREFIX: Final = "openai:"


@dataclass(frozen=True)
class CachedModel:
    """A model that answers conversations: `judge` one answer each (`zhenlong.inference.judge_client.Judge`)."""

    judge: ModelJudge
    backend: Backend
    cache: RequestCache

    @property
    def name(self) -> str:
        """How the model was named."""
        return self.backend.name

    def sample_outputs(
        self, prompts: Sequence[Messages], *, samples_per_prompt: int, max_tokens: int, temperature: float, seed: int
    ) -> list[tuple[GeneratedOutput, ...]]:
        """`n` sampled answers to each prompt; none where it does not fit the context, or the endpoint failed."""

        def request(place: int) -> GenerateRequest:
            return GenerateRequest(
                prompts[place], max_tokens, temperature, n=samples_per_prompt, seed=seed + place if temperature else 0
            )

        return generate_outputs(prompts, self.backend, self.cache, request, min_new_tokens=max_tokens)


def open_cached_model(
    model: ModelLike | Backend,
    cache: RequestCache,
    *,
    chat_template: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    max_num_seqs: int = 64,
    name: str = "",
) -> CachedModel:
    """A model by name, loaded pair or backend, whose answers `cache` keeps."""
    backend = load_backend(
        model, cache, name=name, chat_template=chat_template, device=device, dtype=dtype, max_num_seqs=max_num_seqs
    )
    return CachedModel(ModelJudge(backend, cache), backend, cache)


def load_backend(
    model: ModelLike | Backend,
    cache: RequestCache,
    *,
    name: str = "",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
    max_num_seqs: int = 64,
    device: str = "auto",
    dtype: str = "float32",
) -> Backend:
    """The backend of a model: given as one, by name, as a loaded pair, or as `openai:name@url`."""
    if not isinstance(model, str | Path | tuple):
        return model
    if isinstance(model, str) and model.startswith(ENDPOINT_PREFIX):
        from zhenlong.inference.endpoint import EndpointBackend

        return EndpointBackend(model, chat=chat_template != "none")
    from zhenlong.inference.local import LocalBackend

    return LocalBackend(
        model,
        name=name,
        file_hash=cache.file_hash,
        chat_template=chat_template,
        tokens_per_microbatch=tokens_per_microbatch,
        max_num_seqs=max_num_seqs,
        device=device,
        dtype=dtype,
    )


def require_models_exist(*names: str) -> None:
    """Raise `UserError` for a model that is not there, before anything is written; "" names none."""
    for name in names:
        if name and not name.startswith(ENDPOINT_PREFIX):
            resolve_model_path(name)


def unique_complete_texts(outputs: Sequence[GeneratedOutput]) -> tuple[str, ...]:
    """The different answers that say something and were not cut off."""
    return tuple(dict.fromkeys(one.text for one in outputs if one.text.strip() and not one.truncated))


def output_and_cache_paths(output: str, name: str, cache: str = "") -> tuple[Path, Path]:
    """The .jsonl file that `output` means (`name` in it, where it is a folder), and the file of the answers.

    The folder is made, so that answers can be kept.
    """
    path = Path(output) if output.endswith(".jsonl") else Path(output) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, Path(cache) if cache else path.with_suffix(".cache.sqlite")
