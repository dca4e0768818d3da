"""LLM judges: prompts, verdict parsing, pairwise games, and ratings from battles."""
