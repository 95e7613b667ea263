"""The `Retry-After` header."""

from collections.abc import Mapping
from datetime import UTC, datetime

_MAX_SECONDS = 1e9
"""Upper limit in seconds, about 30 years."""


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, in either form (RFC 9110, section 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if not text:
        return None
    # Imported here: dates are rare, and these modules would slow down every start by some milliseconds.
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(_MAX_SECONDS, max(0.0, (moment - (now or datetime.now(UTC))).total_seconds()))
