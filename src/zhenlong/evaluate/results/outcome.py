"""The outcome of one instance for one model: the only input of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.reading import Reading
from zhenlong.inference.requests import GeneratedOutput, RequestCost
from zhenlong.verify.answer_text import Answer, opens_reasoning, read_answer, strip_reasoning


@dataclass(frozen=True)
class ChoiceScores:
    """The log-probability of each reference as the answer, in the references' order, in nats."""

    log_probs: tuple[float, ...]
    num_tokens: tuple[int, ...] = ()  # of each reference
    calibration_log_probs: tuple[float, ...] = ()  # the same references after the calibration prompt ("Answer:")


@dataclass(frozen=True)
class Outcome:
    """One instance with the prompt that was sent and the model's results.

    `outputs` are what the model said, reasoning traces and all; `answers` are what it answered, and what metrics score.
    `predicted` is the index of the reference that the model chose (multiple choice), None if it chose none of them.
    `text_log_prob` and `text_tokens` are those of the instance's own text (language modelling). `failed` says why there
    is no result: such an outcome counts as failed, never as wrong. `metadata` holds the other fields of a row of
    recorded outputs, such as a judge's verdicts. `reading` says whether the answer could be read; it is set when the
    outcome is scored.
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
    reading: Reading | None = None

    @cached_property
    def readings(self) -> tuple[Answer, ...]:
        """Each output's answer, or the reason why it holds none."""
        in_reasoning = opens_reasoning(self.prompt)
        return tuple(read_answer(one.text, reasoning=one.reasoning, in_reasoning=in_reasoning) for one in self.outputs)

    @cached_property
    def answers(self) -> tuple[GeneratedOutput, ...]:
        """The outputs with the answer alone as their text, without reasoning; the same for later turns."""
        return tuple(
            replace(one, text=answer.text, turns=tuple(strip_reasoning(turn) for turn in one.turns))
            for one, answer in zip(self.outputs, self.readings, strict=True)
        )

    @property
    def text(self) -> str:
        """The first answer; empty if there is none."""
        return self.answers[0].text if self.answers else ""

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


def clusters_of(scored: Sequence[ScoredOutcome]) -> list[str]:
    """The cluster of each outcome of one trial; an instance that shares nothing is on its own."""
    return [one.outcome.instance.cluster or f"place {place}" for place, one in enumerate(scored)]
