"""Sizes and rates, as people write and read them."""

import re

from tagferry.errors import Invalid

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_RATE = r"(\d{1,12}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?(?:/s|ps)?"
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_rate(text: str, *, field: str) -> float:
    """Return bytes per second of a rate such as `20MB` (decimal) or `20MiB/s` (binary); raises Invalid."""
    match = re.fullmatch(_RATE, text.strip(), re.IGNORECASE)
    rate = float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()] if match else 0.0
    if rate < 1:
        raise Invalid(field, "must be a number of bytes per second, as in 500kB, 20MB or 1GiB", text)
    return rate


def format_size(size: float) -> str:
    """Return a number of bytes with a decimal unit, such as `12.3 MB`."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"
