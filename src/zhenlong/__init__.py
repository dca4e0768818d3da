"""Post-train a language model, and prove that it got better."""
