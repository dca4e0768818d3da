"""How is it asked? From an instance to what the model reads."""
