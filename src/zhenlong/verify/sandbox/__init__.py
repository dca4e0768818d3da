"""Run programs that nobody has read, so that all they can do is print: docs/evaluation/code.md."""

from zhenlong.verify.sandbox.box import Box
from zhenlong.verify.sandbox.isolations import Isolation, isolation
from zhenlong.verify.sandbox.limits import Limits, Result
from zhenlong.verify.sandbox.running import in_parallel, run, run_all

__all__ = ["Box", "Isolation", "Limits", "Result", "in_parallel", "isolation", "run", "run_all"]
