"""Who is asked what, and once only: requests, cache, progress, results."""

from zhenlong.evaluate.run.evaluation import Evaluation, evaluate
from zhenlong.evaluate.run.table import results_table

__all__ = ["Evaluation", "evaluate", "results_table"]
