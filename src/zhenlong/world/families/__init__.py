"""Instruction families: each family's prompts, correct values, ideal responses, and how responses are checked."""
