"""Is this answer right? Checkers of text, used by rewards and by evaluation alike."""

from zhenlong.verify.matching import check_exact, check_regex, normalised
from zhenlong.verify.mathematics import check_math
from zhenlong.verify.refusal import refuses
from zhenlong.verify.verdict import VERIFIERS, verify

__all__ = ["VERIFIERS", "check_exact", "check_math", "check_regex", "normalised", "refuses", "verify"]
