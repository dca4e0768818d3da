"""Does the training data contain the evaluation's items?"""
