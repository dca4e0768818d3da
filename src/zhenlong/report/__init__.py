"""What happened? A run, or a recipe's runs and their evaluation, as one page, a terminal table, or Markdown.

The package is called like the command: `zhenlong.report("runs/demo")`.
"""

from zhenlong.callable_package import make_callable
from zhenlong.report.page import write_report
from zhenlong.report.summary_table import summary_markdown, terminal_table

__all__ = ["summary_markdown", "terminal_table", "write_report"]

make_callable(__name__)
