"""The instruction families: how each asks, what is right, how it is told, and how a response is read."""
