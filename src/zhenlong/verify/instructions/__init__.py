"""Instruction following: the 25 kinds of verifiable instruction of IFEval.

Rules: Zhou et al. 2023, arXiv:2311.07911 (google-research/google-research: instruction_following_eval).
"""

from zhenlong.verify.instructions.check import INSTRUCTIONS, check_instructions, instructions_followed, loose_variants

__all__ = ["INSTRUCTIONS", "check_instructions", "instructions_followed", "loose_variants"]
