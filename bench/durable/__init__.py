"""Benchmarks of the queue: how soon a copy begins, what many jobs cost, and what more workers bring."""
