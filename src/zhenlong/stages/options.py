"""The options that several stages share, beside those of data, model and training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from zhenlong.errors import UserError
from zhenlong.options import Options, require_option


@dataclass(frozen=True)
class ReferenceOptions(Options):
    """The frozen model that a policy is compared with."""

    reference: str = ""
    """Reference model; empty takes the policy as it began."""
    reference_cache: str = ""
    """Folder to share reference log-probabilities between runs; empty keeps them in the run's."""


@dataclass(frozen=True)
class SamplingOptions(Options):
    """How a policy answers the prompts that it is trained or measured on."""

    max_tokens: int = 256
    """Longest answer, in tokens."""
    temperature: float = 1.0
    """Sampling temperature; where log-probabilities are trained on, they are taken at the same."""
    overlong: Literal["error", "drop"] = "error"
    """What to do with a prompt that leaves no room for max_tokens: stop with an error, or drop and count it."""

    def validate(self) -> None:
        require_option("max_tokens", self.max_tokens, "a whole number of 1 or more", self.max_tokens >= 1)
        above = math.isfinite(self.temperature) and self.temperature > 0
        require_option("temperature", self.temperature, "a finite number above 0", above)


@dataclass(frozen=True)
class RolloutOptions(SamplingOptions):
    """How many prompts are answered before learning from them, and how often they are learned from."""

    rollout_prompts: int = 128
    """Prompts answered before learning from them, in minibatches of batch_size prompts."""
    update_epochs: int = 1
    """Times that each rollout is learned from."""

    def validate(self) -> None:
        super().validate()
        for name in ("rollout_prompts", "update_epochs"):
            require_option(name, getattr(self, name), "a whole number of 1 or more", getattr(self, name) >= 1)


@dataclass(frozen=True)
class GroupRolloutOptions(RolloutOptions):
    """Rollouts with several answers to each prompt."""

    samples_per_prompt: int = 8
    """Responses sampled for each prompt."""

    def validate(self) -> None:
        super().validate()
        given = self.samples_per_prompt
        require_option("samples_per_prompt", given, "a whole number of 1 or more", given >= 1)


@dataclass(frozen=True)
class HeldoutOptions(Options):
    """When the held-out records are measured during training, and what follows from it."""

    heldout_every: int = 0
    """Steps between measures of the held-out records, besides before the first step and after the last; 0: none."""
    keep_best: bool = False
    """Finish with the model of the best held-out measure, not with the last one."""
    patience: int = 0
    """End after this many held-out measures in a row that are no better than the best; 0 never ends early."""

    def validate(self) -> None:
        super().validate()
        for name in ("heldout_every", "patience"):
            require_option(name, getattr(self, name), "a whole number of 0 or more", getattr(self, name) >= 0)
        if (self.keep_best or self.patience) and not self.heldout_every:
            raise UserError("heldout_every: expected 1 or more, because keep_best or patience is set, got 0")
