"""How good is a model on held-out records? What training stages call."""
