"""Who prefers what? Simulated annotators of the built-in world, and models that label, criticise and revise."""

from zhenlong.feedback.simulated import collect

__all__ = ["collect"]
