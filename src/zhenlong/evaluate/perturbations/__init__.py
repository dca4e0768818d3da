"""Does it still hold when the wording changes? Perturbations of instances (robustness and fairness)."""
