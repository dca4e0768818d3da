"""What a model did with an instance: the only thing that metrics see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from zhenlong.evaluate.results.instance import Instance
from zhenlong.records import Messages


@dataclass(frozen=True)
class GeneratedOutput:
    """One generated answer. None: the model, or whoever recorded the answer, did not say."""

    text: str
    log_prob: float | None = None  # of all its tokens, in nats, at temperature 1
    num_tokens: int | None = None
    truncated: bool = False  # ended at the token limit
    top_log_probs: tuple[Mapping[str, float], ...] = ()  # for each token the likeliest ones, where they were asked for
    turns: tuple[str, ...] = ()  # the answers to an instance's further turns


@dataclass(frozen=True)
class ChoiceScores:
    """How likely each reference is as the answer, in the references' order, in nats."""

    log_probs: tuple[float, ...]
    num_tokens: tuple[int, ...] = ()  # of each reference
    calibration_log_probs: tuple[float, ...] = ()  # the same references after the calibration prompt ("Answer:")


@dataclass(frozen=True)
class RequestCost:
    """What answering took, measured. Requests of one batch share its seconds by tokens."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    flops: float | None = None
    peak_memory: int | None = None  # bytes


@dataclass(frozen=True)
class Outcome:
    """One instance, as asked, and what came of it.

    `predicted` is the index of the reference that the model chose (multiple choice), None where it chose none of them.
    `text_log_prob` and `text_tokens` are those of the instance's own text (language modelling). `failed` says why there
    is no answer: such an outcome is counted as failed and never as wrong. `recorded` holds what else a row of recorded
    outputs said, such as a judge's verdicts.
    """

    instance: Instance
    outputs: tuple[GeneratedOutput, ...] = ()
    choices: ChoiceScores | None = None
    predicted: int | None = None
    text_log_prob: float | None = None
    text_tokens: int | None = None
    prompt: str = ""  # exactly as the model saw it
    failed: str = ""
    cost: RequestCost | None = None
    shots: int = 0
    trial: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The first answer; empty where nothing was generated."""
        return self.outputs[0].text if self.outputs else ""


@dataclass(frozen=True)
class ScoredOutcome:
    """An outcome and what the per-instance metrics made of it: measure -> value."""

    outcome: Outcome
    scores: Mapping[str, float]
    judgement: Mapping[str, Any] = field(default_factory=dict)  # a judge's prompts, answers and verdicts


class Judge(Protocol):
    """A model that answers conversations, asked to judge."""

    name: str

    def __call__(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        top_log_probs: int = 0,
    ) -> list[GeneratedOutput]:
        """One answer to each conversation; `top_log_probs` asks for that many of the likeliest tokens at each place."""
        ...
