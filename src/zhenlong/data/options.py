"""The options of reading data that several commands share."""

from __future__ import annotations

from dataclasses import dataclass

from zhenlong.data.max_length import Overlong
from zhenlong.data.template_sources import parse_template_kwargs, template_spec
from zhenlong.options import Options, require_option


@dataclass(frozen=True)
class RowOptions(Options):
    """How the rows of a data set are read."""

    skip_bad_rows: bool = False
    """Leave bad rows out, count them and list them, instead of stopping at the first."""


@dataclass(frozen=True)
class TemplateOptions(Options):
    """How conversations become tokens."""

    chat_template: str = "auto"
    """The tokenizer's own (auto) or one of its named ones, chatml, llama2, llama3, alpaca, or a Jinja file."""
    chat_template_kwargs: str = ""
    """Arguments of the template, such as enable_thinking=false; several with commas, or a JSON object."""

    @property
    def template_spec(self) -> str:
        """The template with its arguments, as `ChatTemplate.from_tokenizer` takes it."""
        return template_spec(self.chat_template, self.chat_template_kwargs)

    def validate(self) -> None:
        super().validate()
        parse_template_kwargs(self.chat_template_kwargs)


@dataclass(frozen=True)
class PromptOptions(RowOptions, TemplateOptions):
    """How prompts are read and put into the chat template."""


@dataclass(frozen=True)
class LengthOptions(Options):
    """What is done with sequences that are too long."""

    max_length: int = 0
    """Tokens of the longest sequence, such as a prompt with its response; 0 takes the model's context."""
    overlong: Overlong = "error"
    """What to do with a longer sequence: stop with an error, truncate its end, or drop it; both are counted."""

    def validate(self) -> None:
        super().validate()
        require_option("max_length", self.max_length, "a whole number of 0 or more", self.max_length >= 0)


@dataclass(frozen=True)
class DataOptions(PromptOptions, LengthOptions):
    """How conversations, rankings and ratings are read, put into the chat template, and cut."""
