"""The training loop's parts: options, learning-rate schedule, optimiser step, run folder, checkpoints, costs.

Stages call these functions; there is no trainer class to inherit from. See `docs/loop.md` for the guarantees.
"""

from zhenlong.loop.learner import Learner, MetricSum, NonFiniteError, StepLoss
from zhenlong.loop.ledger import FlopEstimator, Ledger
from zhenlong.loop.options import TrainingOptions
from zhenlong.loop.precision import autocast, compute_dtype, device_of
from zhenlong.loop.run import Run
from zhenlong.loop.schedule import learning_rate, schedule_phase
from zhenlong.loop.signals import Interrupted
from zhenlong.randomness import derived_seed, eval_mode, seed_everything

__all__ = [
    "FlopEstimator",
    "Interrupted",
    "Learner",
    "Ledger",
    "MetricSum",
    "NonFiniteError",
    "Run",
    "StepLoss",
    "TrainingOptions",
    "autocast",
    "compute_dtype",
    "derived_seed",
    "device_of",
    "eval_mode",
    "learning_rate",
    "schedule_phase",
    "seed_everything",
]
