"""A sandbox for untrusted programs, whose only effect is their output: docs/evaluation/code.md."""

from zhenlong.verify.sandbox.isolation_backends import Isolation
from zhenlong.verify.sandbox.limits import Limits, ProgramResult, ProgramSettings
from zhenlong.verify.sandbox.running import map_in_threads, run_program, run_programs
from zhenlong.verify.sandbox.sandbox import Sandbox, best_isolation

__all__ = [
    "Isolation",
    "Limits",
    "ProgramResult",
    "ProgramSettings",
    "Sandbox",
    "best_isolation",
    "map_in_threads",
    "run_program",
    "run_programs",
]
