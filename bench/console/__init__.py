"""Measure the pages of the console with a large installation, and many open consoles."""
