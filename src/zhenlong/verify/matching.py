"""Comparison with a reference string, plain or normalised, or by regular expression."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from zhenlong.errors import UserError
from zhenlong.verify.bounded_regex import regex_fullmatch, regex_matches

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def check_exact(response: str, reference: str, *, normalize: bool = True, accept: Sequence[str] = ()) -> float:
    """1.0 if the response is the reference, or one of `accept`, else 0.0.

    With `normalize`, both are lower-cased, without punctuation and articles, white space collapsed: SQuAD's rule
    (Rajpurkar et al. 2016), HELM's quasi-exact match. Without, only white space at the ends is ignored.
    """
    transform = normalize_text if normalize else str.strip
    return float(transform(response) in {transform(right) for right in (reference, *accept)})


def normalize_text(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def check_regex(response: str, reference: str, *, pattern: str, full: bool = False, ignore_case: bool = False) -> float:
    """1.0 if `pattern` matches in the response, else 0.0; with `full` it has to match the whole stripped response.

    If the pattern has a group and the reference is not empty, group 1 of the *last* match must equal the reference
    after stripping. `.` also matches line breaks. Raises UserError for an invalid pattern, and `RegexTooSlow` for one
    that takes longer than two seconds.
    """
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    try:
        groups = re.compile(pattern, flags).groups
        if full:
            full_match = regex_fullmatch(pattern, response.strip(), flags)
            matches = [] if full_match is None else [full_match]
        else:
            matches = regex_matches(pattern, response, flags)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"regex {pattern!r}: not a regular expression ({error})") from None
    if not matches:
        return 0.0
    if groups and reference:
        return float((matches[-1].group(1) or "").strip() == reference.strip())
    return 1.0
