"""Who is asked what, and once only: requests, cache, progress, results."""

from zhenlong.evaluate.run.console import results_table
from zhenlong.evaluate.run.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate", "results_table"]
