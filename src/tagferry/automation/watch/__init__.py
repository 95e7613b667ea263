"""Watches the tags of repositories."""
