"""Which scenarios are made, not downloaded? Generators of rows, one module for each kind, the same for the same seed."""
