"""Measure requests to the embedded registry beside other registries."""
