"""Generators of rows for synthetic scenarios, deterministic in the seed."""
