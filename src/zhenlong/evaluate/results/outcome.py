"""The outcome of one instance for one model: the only input of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zhenlong.evaluate.results.instance import Instance
from zhenlong.inference.requests import GeneratedOutput, RequestCost


@dataclass(frozen=True)
class ChoiceScores:
    """The log-probability of each reference as the answer, in the references' order, in nats."""

    log_probs: tuple[float, ...]
    num_tokens: tuple[int, ...] = ()  # of each reference
    calibration_log_probs: tuple[float, ...] = ()  # the same references after the calibration prompt ("Answer:")


@dataclass(frozen=True)
class Outcome:
    """One instance with the prompt that was sent and the model's results.

    `predicted` is the index of the reference that the model chose (multiple choice), None if it chose none of them.
    `text_log_prob` and `text_tokens` are those of the instance's own text (language modelling). `failed` says why there
    is no result: such an outcome counts as failed, never as wrong. `metadata` holds the other fields of a row of
    recorded outputs, such as a judge's verdicts.
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
        """The first response; empty if nothing was generated."""
        return self.outputs[0].text if self.outputs else ""

    @property
    def answer_text(self) -> str:
        """The text of the chosen reference, or without a choice the first response."""
        return self.text if self.predicted is None else self.instance.references[self.predicted].text


@dataclass(frozen=True)
class ScoredOutcome:
    """An outcome and its scores by the per-instance metrics: measure -> value."""

    outcome: Outcome
    scores: Mapping[str, float]
    judgement: Mapping[str, Any] = field(default_factory=dict)  # a judge's prompts, responses and verdicts
