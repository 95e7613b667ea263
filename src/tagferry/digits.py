"""Whole numbers as headers, queries and settings write them."""

_LONGEST = 18
"""Digits; so many always fit into 64 bits, as databases and file systems have their numbers."""


def whole_number(text: str) -> int | None:
    """Return the number that ASCII digits write; None where the text is anything else, or has more than 18 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST else None
