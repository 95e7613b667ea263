"""Retention: policies that delete tags."""
