"""Retention: deletes tags by policies."""
