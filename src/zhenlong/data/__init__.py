"""Data: readers for common formats, chat templates with loss masks, mixtures, statistics."""

from zhenlong.data.chat_templates import ChatTemplate, TokenizedExample
from zhenlong.data.max_length import FittedExamples, LengthLimit, Overlong, enforce_max_length, require_prompt_fits
from zhenlong.data.mixture import Mixture, read_mixture
from zhenlong.data.mixture_spec import MixtureSpec, parse_mixture_spec
from zhenlong.data.reader import BadRow, iter_records, read

__all__ = [
    "BadRow",
    "ChatTemplate",
    "FittedExamples",
    "LengthLimit",
    "Mixture",
    "MixtureSpec",
    "Overlong",
    "TokenizedExample",
    "enforce_max_length",
    "iter_records",
    "parse_mixture_spec",
    "read",
    "read_mixture",
    "require_prompt_fits",
]
