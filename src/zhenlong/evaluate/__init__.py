"""How good is it, really? Metrics of models with confidence intervals, and paired differences between models.

The package is called like the command: `zhenlong.evaluate(model=["runs/sft"], suite="quick", output="runs/scores")`.
"""

from zhenlong.api.public_names import make_callable
from zhenlong.evaluate.heldout.sampled_responses import exact_match, mean_reward
from zhenlong.evaluate.heldout.text_metrics import perplexity, preference_accuracy, reward_accuracy
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval, paired_difference, ratio_interval
from zhenlong.evaluate.world.behaviour import (
    WorldResponse,
    evaluate_behaviour,
    paired_gain,
    read_world_responses,
    summarise_behaviour,
    write_world_responses,
)
from zhenlong.evaluate.world.knowledge import closed_book_accuracy

__all__ = [
    "Interval",
    "WorldResponse",
    "closed_book_accuracy",
    "evaluate_behaviour",
    "exact_match",
    "mean_interval",
    "mean_reward",
    "paired_difference",
    "paired_gain",
    "perplexity",
    "preference_accuracy",
    "ratio_interval",
    "read_world_responses",
    "reward_accuracy",
    "summarise_behaviour",
    "write_world_responses",
]

make_callable(__name__)
