"""How good is it, really? Measures of models with intervals, and paired differences between them."""

from zhenlong.evaluate.behaviour import Row, evaluate_behaviour, gain, read_rows, summarise, write_rows
from zhenlong.evaluate.knowledge import closed_book
from zhenlong.evaluate.responses import exact_match, mean_reward
from zhenlong.evaluate.statistics import Interval, interval, paired_difference, ratio
from zhenlong.evaluate.text import perplexity, preference_accuracy, reward_accuracy

__all__ = [
    "Interval",
    "Row",
    "closed_book",
    "evaluate_behaviour",
    "exact_match",
    "gain",
    "interval",
    "mean_reward",
    "paired_difference",
    "perplexity",
    "preference_accuracy",
    "ratio",
    "read_rows",
    "reward_accuracy",
    "summarise",
    "write_rows",
]
