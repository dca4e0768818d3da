"""Who is asked what, and once only: requests, cache, progress, results."""

from zhenlong.evaluate.runner.evaluate import Evaluation, evaluate
from zhenlong.evaluate.runner.table import table

__all__ = ["Evaluation", "evaluate", "table"]
