"""What happened? Reports of a run, or of a recipe's runs and evaluation: HTML page, terminal table, Markdown.

The package is called like the command: `zhenlong.report("runs/demo")`.
"""

from zhenlong.api.public_names import make_callable
from zhenlong.report.page import write_report
from zhenlong.report.summary_table import summary_markdown, terminal_table

__all__ = ["summary_markdown", "terminal_table", "write_report"]

make_callable(__name__)
