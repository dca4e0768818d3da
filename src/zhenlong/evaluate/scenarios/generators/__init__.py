"""Which scenarios are made, not downloaded? Generators of rows, the same for the same seed."""
