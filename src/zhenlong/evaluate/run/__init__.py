"""Who is asked what, and once only: requests, cache, progress, results."""

from zhenlong.evaluate.run.console import results_table
from zhenlong.evaluate.run.evaluation import Evaluation, evaluate, run_evaluation

__all__ = ["Evaluation", "evaluate", "results_table", "run_evaluation"]
