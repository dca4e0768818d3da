"""The options of rewards that ask a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhenlong.inference.cache import IN_MEMORY
from zhenlong.options import Options, require_option


@dataclass(frozen=True)
class RewardOptions(Options):
    """What a reward asks of the models in it."""

    judge_max_tokens: int = 512
    """Longest reply of a judge:... in the reward, with its reasoning; a reasoning judge needs thousands."""

    toxicity_classifier: str = "lexicon"
    """Scorer of the reward toxicity: a classifier's folder or hub id, FOLDER:LABEL, or lexicon, which finds half."""

    def validate(self) -> None:
        given = self.judge_max_tokens
        require_option("judge_max_tokens", given, "a whole number of 1 or more", given >= 1)


@dataclass(frozen=True)
class JudgeOptions:
    """How a judge is loaded and asked; `cache` is the file of its replies."""

    max_tokens: int = RewardOptions.judge_max_tokens
    cache: str | Path = IN_MEMORY
    device: str = "auto"
    dtype: str = "float32"
