"""Which answer does a judge prefer? Prompts, verdicts, and the arenas built on them."""
