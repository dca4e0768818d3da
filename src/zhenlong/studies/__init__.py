"""Is the claim true? Studies that run or read stages and evaluations, and code written to be read."""
