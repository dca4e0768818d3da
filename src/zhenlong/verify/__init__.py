"""Is this answer right? Verifiers of responses, used by rewards and by evaluation."""

from zhenlong.verify.matching import check_exact, check_regex, normalize_text
from zhenlong.verify.math_verify_check import check_math
from zhenlong.verify.refusal import is_refusal
from zhenlong.verify.verifiers import VERIFIERS, verify

__all__ = ["VERIFIERS", "check_exact", "check_math", "check_regex", "is_refusal", "normalize_text", "verify"]
