"""How good is each model, really? An evaluation's folder as a page: tables, diagrams, and every instance."""

from zhenlong.report.evaluation.evaluation_data import is_evaluation
from zhenlong.report.evaluation.page import write_evaluation_report

__all__ = ["is_evaluation", "write_evaluation_report"]
