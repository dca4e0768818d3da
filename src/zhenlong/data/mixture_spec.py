"""Data specifications: sources, their sampling weights, and other weights for the decay phase.

    chat.jsonl*0.7,maths.jsonl*0.3              seven draws of chat for three of maths
    web.txt*0.9/0.2,chat.jsonl*0.1/0.8          other weights in the decay phase of wsd (MiniCPM, Hu et al. 2024, §4)
    a.jsonl,b.jsonl,c.jsonl,temperature=2       weights p_i ∝ n_i^(1/T), n_i the number of records of a source
    a.jsonl,b.jsonl,cap=3000                    n_i counts as at most 3000 (T5, Raffel et al. 2020, §3.5.2; FLAN)
    a.jsonl+epochs=2,b.jsonl+epochs=0.5         an epoch of the mixture is two passes over a and half a pass over b
    a.jsonl*0.5+max_epochs=4,b.jsonl*0.5        a is dropped after four passes (UniMax, Chung et al. 2023)
    a.jsonl+cap=1000,b.jsonl                    a thousand records of a, chosen by the seed

Commas separate sources; in a list each string is one source, and a comma is part of its name. The name of an existing
file or folder always means that file, whatever it contains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zhenlong.errors import UserError

_WEIGHTED: Final = re.compile(r"(.+)\*([0-9.eE+-]+)(?:/([0-9.eE+-]+))?", re.DOTALL)
_SOURCE_OPTION: Final = re.compile(r"(.+)\+(epochs|max_epochs|cap)=([^+]*)", re.DOTALL)
_MIXTURE_OPTION: Final = re.compile(r"(temperature|cap)=(.*)")


@dataclass(frozen=True)
class SourceSpec:
    """One source of a mixture. `weight` and `decay_weight` are sampling weights on any scale; None means by size.

    `epochs` multiplies the size, `max_epochs` limits the passes over the source, `cap` the number of records used.
    """

    spec: str
    weight: float | None = None
    decay_weight: float | None = None
    epochs: float | None = None
    max_epochs: float | None = None
    cap: int | None = None


@dataclass(frozen=True)
class MixtureSpec:
    """The sources, and how their sizes become sampling weights."""

    sources: tuple[SourceSpec, ...]
    temperature: float = 1.0
    cap: int | None = None

    @property
    def has_decay_weights(self) -> bool:
        """Whether the weights change in the decay phase."""
        return any(source.decay_weight is not None for source in self.sources)

    def sampling_weights(self, sizes: Sequence[int], decay: bool = False) -> list[float]:
        """The sampling weights, on any scale, of sources with `sizes` records."""
        weights = [one.decay_weight if decay and self.has_decay_weights else one.weight for one in self.sources]
        if all(weight is not None for weight in weights):
            return [weight or 0.0 for weight in weights]
        capped_sizes = [size if self.cap is None else min(size, self.cap) for size in sizes]
        epochs = [1.0 if one.epochs is None else one.epochs for one in self.sources]
        return [times * count ** (1 / self.temperature) for times, count in zip(epochs, capped_sizes, strict=True)]

    def max_draws(self, sizes: Sequence[int]) -> list[int | None]:
        """Maximum number of draws from each source; None for unlimited."""
        pairs = zip(self.sources, sizes, strict=True)
        return [None if one.max_epochs is None else max(1, round(one.max_epochs * size)) for one, size in pairs]

    def epoch_size(self, sizes: Sequence[int]) -> int:
        """Number of draws in one epoch of the mixture: the number of records, each counted with its `epochs`."""
        epochs = (1.0 if one.epochs is None else one.epochs for one in self.sources)
        return max(1, round(sum(times * size for times, size in zip(epochs, sizes, strict=True))))


def parse_mixture_spec(specs: str | Sequence[str]) -> MixtureSpec:
    """Parse a specification. Raises `UserError` for an invalid number and for contradictory weights."""
    single = isinstance(specs, str)
    texts = [specs] if isinstance(specs, str) else list(specs)
    if single and not Path(texts[0]).exists():
        texts = [part.strip() for part in texts[0].split(",")]
    if not texts or not all(texts):
        raise UserError(f"data: {specs!r} contains an empty source; expected sources such as a.jsonl*0.7,b.jsonl*0.3")
    mixture_options = {
        found[1]: found[2] for text in texts if (found := _MIXTURE_OPTION.fullmatch(text)) and not Path(text).exists()
    }
    sources = tuple(_parse_source(text) for text in texts if not _MIXTURE_OPTION.fullmatch(text) or Path(text).exists())
    temperature = (
        _parse_positive("temperature", mixture_options["temperature"]) if "temperature" in mixture_options else 1.0
    )
    cap = _parse_count("cap", mixture_options["cap"]) if "cap" in mixture_options else None
    spec = MixtureSpec(sources, temperature, cap)
    _require_consistent(spec, ", ".join(texts), bool(mixture_options))
    return spec


def unweighted_sources(specs: str | Sequence[str]) -> list[str]:
    """The sources of a specification whose records are each read once, so that weights are not allowed."""
    spec = parse_mixture_spec(specs)
    for one in spec.sources:
        if one != SourceSpec(one.spec) or spec != MixtureSpec(spec.sources):
            raise UserError(
                f"{specs if isinstance(specs, str) else ', '.join(specs)}: weights, epochs, caps and temperature order "
                "training data, but here each record is read once; remove them"
            )
    return [one.spec for one in spec.sources]


def _parse_source(text: str) -> SourceSpec:
    options: dict[str, str] = {}
    remainder = text
    while not Path(remainder).exists() and (found := _SOURCE_OPTION.fullmatch(remainder)):
        remainder, name, value = found.groups()
        if name in options:
            raise UserError(f"data: {text}: {name} is given twice; expected it once")
        options[name] = value
    match = None if Path(remainder).exists() else _WEIGHTED.fullmatch(remainder)
    return SourceSpec(
        remainder if match is None else match[1],
        None if match is None else _parse_weight(text, match[2]),
        None if match is None or match[3] is None else _parse_weight(text, match[3]),
        _parse_positive(f"{text}: epochs", options["epochs"]) if "epochs" in options else None,
        _parse_positive(f"{text}: max_epochs", options["max_epochs"]) if "max_epochs" in options else None,
        _parse_count(f"{text}: cap", options["cap"]) if "cap" in options else None,
    )


def _require_consistent(spec: MixtureSpec, text: str, has_mixture_options: bool) -> None:
    stable_weights = [one.weight for one in spec.sources]
    decay_weights = [one.decay_weight for one in spec.sources]
    if not spec.sources:
        raise UserError(f"data: {text}: has no source; expected one besides the options of the mixture")
    if len({weight is None for weight in stable_weights}) > 1:
        raise UserError(f"data: {text}: some sources have a weight; give one to each or to none")
    if len({weight is None for weight in decay_weights}) > 1:
        raise UserError(f"data: {text}: some sources have a weight for the decay phase; give one to each or to none")
    if not spec.has_decay_weights and 0.0 in stable_weights:
        raise UserError(f"data: {text}: the weight 0 is not a number above 0; remove the source")
    for phase, weights in (("stable", stable_weights), ("decay", decay_weights)):
        if weights and None not in weights and not any(weights):
            raise UserError(f"data: {text}: no source has a weight above 0 in the {phase} phase")
    if stable_weights[0] is not None and (has_mixture_options or any(one.epochs is not None for one in spec.sources)):
        raise UserError(
            f"data: {text}: weights already set the proportions; remove them, or temperature, cap and epochs"
        )
    if has_mixture_options and any(one.epochs is not None for one in spec.sources):
        raise UserError(f"data: {text}: epochs already set the proportions; remove them, or temperature and cap")


def _parse_weight(source: str, text: str) -> float:
    return _parse_number(text, float, lambda value: value >= 0, f"data: {source}: the weight {text}", "*0.7")


def _parse_positive(name: str, text: str) -> float:
    return _parse_number(text, float, lambda value: value > 0, f"data: {name}={text}", "2")


def _parse_count(name: str, text: str) -> int:
    return int(_parse_number(text, int, lambda value: value > 0, f"data: {name}={text}", "3000"))


def _parse_number(
    text: str, kind: Callable[[str], float], is_valid: Callable[[float], bool], what: str, example: str
) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and is_valid(value)):
        raise UserError(
            f"{what} is not a {'whole ' if kind is int else ''}number above 0; expected one such as {example}"
        )
    return value
