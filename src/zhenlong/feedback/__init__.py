"""Who prefers what? So far the simulated annotators of the built-in world, asked about a model's own answers."""

from zhenlong.feedback.simulated import collect

__all__ = ["collect"]
