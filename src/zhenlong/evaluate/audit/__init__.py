"""Did training see what an evaluation asks?"""
