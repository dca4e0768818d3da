"""How a public name, option or format that will go away says so; the rule is in CONTRIBUTING.md."""

from __future__ import annotations

import warnings


class ZhenlongDeprecationWarning(FutureWarning):
    """Something public of this package will be removed.

    The command line shows it as one line, while it leaves out the deprecations that libraries tell each other.
    """


def warn_deprecated(old: str, new: str, removed_in: str, stacklevel: int = 3) -> None:
    """Warn that `old` is deprecated, what to use instead, and the version that will no longer have it.

    `stacklevel` counts from here: 3 is the line that called the function that calls this one.
    """
    message = f"{old} is deprecated and will be removed in {removed_in}; use {new}"
    warnings.warn(message, ZhenlongDeprecationWarning, stacklevel=stacklevel)
