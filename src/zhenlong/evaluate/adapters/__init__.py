"""How is a prompt built? From an instance to the requests sent to a model."""
