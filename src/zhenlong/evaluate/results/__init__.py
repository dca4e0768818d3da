"""What came of an evaluation: outcomes, their scores, and the files that hold them."""
