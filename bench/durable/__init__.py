"""Benchmarks of the queue: how soon a copy begins, what many jobs cost, and how it scales with workers."""
