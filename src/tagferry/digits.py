"""Parse whole numbers in headers, queries and settings."""

_MAX_DIGITS = 18
"""Digits that always fit into the 64-bit numbers of databases and file systems."""


def whole_number(text: str) -> int | None:
    """Return the number written in ASCII digits; None for any other text, or for more than 18 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None
