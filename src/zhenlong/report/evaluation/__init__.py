"""The report of an evaluation: tables, charts, and a browser of all instances."""

from zhenlong.report.evaluation.evaluation_data import is_evaluation
from zhenlong.report.evaluation.page import write_evaluation_report

__all__ = ["is_evaluation", "write_evaluation_report"]
