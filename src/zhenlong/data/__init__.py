"""What do we learn from? Readers for the field's formats, chat templates and their loss masks, mixtures, profiles."""

from zhenlong.data.blend import Blend, parse_blend, split_weights
from zhenlong.data.lengths import Fitted, Overlong, fit_length, require_prompt_fits
from zhenlong.data.mixture import Mixture, read_mixture
from zhenlong.data.profiles import Profile, fingerprint, profile
from zhenlong.data.reader import BadRow, read, stream
from zhenlong.data.templates import Sample, Template

__all__ = [
    "BadRow",
    "Blend",
    "Fitted",
    "Mixture",
    "Overlong",
    "Profile",
    "Sample",
    "Template",
    "fingerprint",
    "fit_length",
    "parse_blend",
    "profile",
    "read",
    "read_mixture",
    "require_prompt_fits",
    "split_weights",
    "stream",
]
