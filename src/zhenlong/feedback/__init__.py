"""Who prefers what? Simulated annotators of the built-in world, and models that label, criticise and revise."""

from zhenlong.feedback.simulate_preferences import simulate_preferences

__all__ = ["simulate_preferences"]
