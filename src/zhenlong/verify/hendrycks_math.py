r"""Equality of two LaTeX answers as normalised strings: the official comparison of MATH.

Hendrycks et al. 2021 (hendrycks/math: modeling/math_equivalence.py). It does no algebra: `x+1` is not `1+x`.
"""

from __future__ import annotations

import re
from typing import Final

_REPLACEMENTS: Final = (
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
)


def math_equivalent(answer: str | None, reference: str | None) -> bool:
    """Whether two answers normalise to the same string; if one cannot be normalised, whether they are identical.

    A missing answer (None) equals nothing, not even another one.
    """
    if answer is None or reference is None:
        return False
    try:
        return normalize_math(answer) == normalize_math(reference)
    except ValueError:
        return answer == reference


def normalize_math(text: str) -> str:
    r"""The normal form: without units, degrees, dollars, per cent and spaces; `\frac12` becomes `\frac{1}{2}`.

    Raises `ValueError` if a `\frac` or `\sqrt` has no argument, or several `\text{ ` look like units.
    """
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    text = _remove_right_units(text).replace("\\%", "").replace("%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text.startswith("."):
        text = "0" + text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:  # "k = 3": the variable's name
        text = sides[1]
    text = _fix_fracs(_fix_sqrt(text).replace(" ", ""))
    return _fix_a_slash_b("\\frac{1}{2}" if text == "0.5" else text)


def _remove_right_units(text: str) -> str:
    number, *units = text.split("\\text{ ")
    if len(units) > 1:
        raise ValueError("more than one unit")
    return number


def _fix_sqrt(text: str) -> str:
    r"""`\sqrt3` as `\sqrt{3}`."""
    head, *roots = text.split("\\sqrt")
    if not all(roots):
        raise ValueError("a root without an argument")
    return head + "".join("\\sqrt" + (root if root[0] == "{" else f"{{{root[0]}}}{root[1:]}") for root in roots)


def _fix_fracs(text: str) -> str:
    r"""`\frac12` and `\frac1{72}` with braces. A `\frac` before a single character leaves the text unchanged."""
    head, *fractions = text.split("\\frac")
    parts = [head]
    for one in fractions:
        if not one:
            raise ValueError("a fraction without an argument")
        if one[0] == "{":
            parts.append(one)
        elif len(one) < 2:
            return text
        else:
            parts.append(f"{{{one[0]}}}{one[1:]}" if one[1] == "{" else f"{{{one[0]}}}{{{one[1]}}}{one[2:]}")
    return "\\frac".join(parts)


def _fix_a_slash_b(text: str) -> str:
    r"""`3/4` as `\frac{3}{4}`, for plain integers."""
    found = re.fullmatch(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)", text)
    return f"\\frac{{{found[1]}}}{{{found[2]}}}" if found else text
