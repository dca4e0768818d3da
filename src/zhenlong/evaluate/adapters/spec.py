"""The adapter's options: how an instance becomes a prompt, the same for every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from zhenlong.errors import UserError

METHODS: Final = {
    "generation": "continue a text prompt",
    "chat": "respond as the assistant of a conversation",
    "multiple_choice_joint": "all choices in the prompt, answered by letter",
    "multiple_choice_separate": "each choice scored after the prompt",
    "multiple_choice_calibrated": "each choice scored after the prompt, less its score after the bare answer prefix",
    "language_modelling": "the log-probability of the text itself",
    "ranking": "is this passage relevant? the log-probability of Yes, for each passage",
}


@dataclass(frozen=True)
class Adapter:
    """Options of HELM's adapters (adaptation/adapter_spec.py), with its defaults.

    A prompt is the instructions, the in-context examples and the instance, joined by `instance_separator`. An example
    is `input_prefix` input `input_suffix` [choices] `output_prefix` answer `output_suffix`; the instance is the same up
    to the output prefix. Choices are lines `choice_prefix` (whose A becomes B, C ...) text `choice_suffix`.

    A chat uses prefixes and suffixes only if they are set: otherwise a user turn is the input itself. An instance's
    `data` may hold `history` (messages that come before its input), `example` (the answer it shows as an in-context
    example instead of its reference, such as a chain of thought), and its own `instructions` and `max_tokens`.
    """

    method: str = "generation"
    instructions: str = ""
    system: str = ""  # the system message of a chat
    input_prefix: str = "Input: "
    input_suffix: str = "\n"
    output_prefix: str = "Output: "
    output_suffix: str = "\n"
    choice_prefix: str = "A. "
    choice_suffix: str = "\n"
    instance_separator: str = "\n"
    calibration: str = "Answer:"  # the prompt that multiple_choice_calibrated compares with
    shots: int = 0  # maximum number of in-context examples; fewer if they do not fit the context
    sample_examples: bool = True  # sample balanced over labels; false: the first of the pool, in its order
    examples_by: str = ""  # name of a group: examples come from the instance's own (MMLU: subject)
    answer: str = "generated"  # multiple_choice_joint: the letter is `generated`, or all letters are `scored`
    normalise_by: str = "tokens"  # multiple_choice_separate divides log-probabilities by tokens, characters, or none
    multi_label: bool = False  # an example's answer lists all its correct references
    max_tokens: int = 100
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    n: int = 1  # samples per instance (pass@k, avg@n)
    most_probable_first: bool = False  # order the n samples by log-probability, as HELM does before it measures
    top_log_probs: int = 0
    temperatures: tuple[tuple[str, float], ...] = ()  # by the instance's group `category` (MT-Bench)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"adapter: method {self.method!r} is not known; expected one of {', '.join(METHODS)}")
        if self.answer not in ("generated", "scored"):
            raise UserError(f"adapter: answer: expected generated or scored, got {self.answer!r}")
        if self.normalise_by not in ("tokens", "characters", "none"):
            raise UserError(f"adapter: normalise_by: expected tokens, characters or none, got {self.normalise_by!r}")
        if self.shots < 0 or self.n < 1 or self.max_tokens < 1 or self.temperature < 0:
            raise UserError("adapter: expected shots >= 0, n >= 1, max_tokens >= 1 and temperature >= 0")
        if self.method == "chat":
            for name in ("input_prefix", "input_suffix", "output_prefix", "output_suffix"):
                if getattr(self, name) == getattr(type(self), name):
                    object.__setattr__(self, name, "")
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        pairs = self.temperatures.items() if isinstance(self.temperatures, dict) else self.temperatures
        object.__setattr__(self, "temperatures", tuple((str(name), float(value)) for name, value in pairs))
