"""Retention: which tags of a repository are deleted by themselves."""
