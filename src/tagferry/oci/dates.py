"""The dates of images and files, if they are plausible.

The date in an image's config may be absent, Go's zero time (cosign), a fixed date of reproducible builds, or invalid
text. All of these mean that the date is unknown, which is None: an unknown date is neither old nor new.
"""

import re
from datetime import UTC, datetime, timedelta

_PLACEHOLDERS_BEFORE = datetime(1981, 1, 1, tzinfo=UTC)
"""Reproducible builds give their images a fixed date, of 1970 or 1980."""
_CLOCKS_DIFFER_BY = timedelta(days=1)
_LONGEST = 64
# RFC 3339, section 5.6, ignoring case; a space between date and time (its note) and a missing zone are accepted.
_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):?([0-5]\d))?", re.ASCII
)


def parse_date(value: object) -> datetime | None:
    """Return the date in a JSON value, in UTC, or None if it is unknown.

    Fractions of a second are truncated to microseconds, and a leap second is the first second of the next minute. A
    date without a zone is in UTC.

    Args:
        value: an RFC 3339 string; anything else is unknown.
    """
    if not isinstance(value, str) or len(value) > _LONGEST or not (match := _DATE_TIME.fullmatch(value.strip())):
        return None
    day, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}").replace(tzinfo=UTC)
        moment += timedelta(seconds=_second(second), microseconds=int((fraction or "0")[:6].ljust(6, "0")))
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return plausible(moment - offset if sign == "+" else moment + offset)
    except (ValueError, OverflowError):
        return None


def date_from_timestamp(seconds: float) -> datetime | None:
    """Return the date of a Unix timestamp, or None if it is not plausible."""
    try:
        return plausible(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def plausible(moment: datetime) -> datetime | None:
    """Return a date unless it precedes container images, or is in the future by more than clocks differ."""
    latest = datetime.now(UTC) + _CLOCKS_DIFFER_BY
    return moment if _PLACEHOLDERS_BEFORE <= moment <= latest else None


def _second(text: str) -> int:
    second = int(text)
    if second > 60:
        raise ValueError(f"{second} is not a valid second")
    return second
