"""Transcripts as benchmarks and harnesses publish them, read as rows of recorded outputs."""
