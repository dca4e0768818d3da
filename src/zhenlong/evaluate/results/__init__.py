"""Outcomes of an evaluation, their scores, and the files that store them."""
