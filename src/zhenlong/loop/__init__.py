"""How a step happens: options, learning-rate schedule, optimiser step, run folder, checkpoints, costs.

A stage calls these; there is no trainer to inherit from. `docs/loop.md` has the rules that they keep.
"""

from zhenlong.loop.learner import Learner, Metric, NonFiniteError, StepLoss
from zhenlong.loop.ledger import Cost, Ledger
from zhenlong.loop.options import Options
from zhenlong.loop.precision import autocast, compute_dtype, device_of
from zhenlong.loop.randomness import derived_seed, evaluating, seed_everything
from zhenlong.loop.run import Run
from zhenlong.loop.schedule import learning_rate, phase
from zhenlong.loop.signals import Interrupted

__all__ = [
    "Cost",
    "Interrupted",
    "Learner",
    "Ledger",
    "Metric",
    "NonFiniteError",
    "Options",
    "Run",
    "StepLoss",
    "autocast",
    "compute_dtype",
    "derived_seed",
    "device_of",
    "evaluating",
    "learning_rate",
    "phase",
    "seed_everything",
]
