"""Evaluation on held-out records, as training stages call it."""
