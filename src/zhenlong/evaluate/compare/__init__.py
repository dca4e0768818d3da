"""Which of two evaluations is better, and may the candidate pass?"""
