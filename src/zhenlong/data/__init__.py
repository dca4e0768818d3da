"""What do we learn from? Readers for the field's formats, chat templates and their loss masks, mixtures, profiles."""

from zhenlong.data.chat_templates import ChatTemplate, TokenizedExample
from zhenlong.data.max_length import FittedExamples, Overlong, enforce_max_length, require_prompt_fits
from zhenlong.data.mixture import Mixture, read_mixture
from zhenlong.data.mixture_spec import MixtureSpec, parse_mixture_spec, sources_with_weights
from zhenlong.data.reader import BadRow, iter_records, read
from zhenlong.data.token_stats import TokenStats, fingerprint, token_stats

__all__ = [
    "BadRow",
    "ChatTemplate",
    "FittedExamples",
    "Mixture",
    "MixtureSpec",
    "Overlong",
    "TokenStats",
    "TokenizedExample",
    "enforce_max_length",
    "fingerprint",
    "iter_records",
    "parse_mixture_spec",
    "read",
    "read_mixture",
    "require_prompt_fits",
    "sources_with_weights",
    "token_stats",
]
