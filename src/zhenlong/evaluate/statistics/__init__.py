"""How sure is a number? Intervals, tests, and the smallest effect that a sample size detects."""

from zhenlong.evaluate.statistics.intervals import Interval, mean_interval, paired_difference, ratio_interval

__all__ = ["Interval", "mean_interval", "paired_difference", "ratio_interval"]
