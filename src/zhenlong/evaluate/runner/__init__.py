"""Who is asked what, and once only: requests, cache, progress, results."""
