"""Confidence intervals, significance tests, and minimum detectable effects."""

from zhenlong.evaluate.statistics.intervals import Interval, mean_interval, paired_difference, ratio_interval

__all__ = ["Interval", "mean_interval", "paired_difference", "ratio_interval"]
