"""The options of asking models, which evaluations and feedback share."""

from __future__ import annotations

from dataclasses import dataclass

from zhenlong.models.options import LoadOptions
from zhenlong.options import require_option


@dataclass(frozen=True)
class BackendSettings:
    """How a model in this process computes its answers; an endpoint has use for the chat template only."""

    chat_template: str = "auto"
    device: str = "auto"
    dtype: str = "float32"
    max_num_seqs: int = 64
    tokens_per_microbatch: int = 8192


@dataclass(frozen=True)
class InferenceOptions(LoadOptions):
    """How models answer: where, how many requests at a time, and where the answers are kept."""

    cache: str = ""
    """File of the answers, which makes a second run continue the first; empty puts it beside the output."""
    max_num_seqs: int = 64
    """Answers generated at a time; fewer need less memory."""

    def validate(self) -> None:
        super().validate()
        require_option(
            "max_num_seqs", self.max_num_seqs, "a whole number of 1 or more", is_valid=self.max_num_seqs >= 1
        )

    def backend_settings(self, chat_template: str) -> BackendSettings:
        """What these options say to a backend."""
        return BackendSettings(chat_template, device=self.device, dtype=self.dtype, max_num_seqs=self.max_num_seqs)
