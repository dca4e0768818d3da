"""How good is a model in the built-in world?"""
