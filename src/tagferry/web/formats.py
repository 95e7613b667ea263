"""SWR's formats of dates and ids."""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache

_UNKNOWN = datetime.fromtimestamp(0, UTC)


@lru_cache(maxsize=20_000)
def date(moment: datetime | None) -> str:
    """Format a time as SWR does, in UTC with microseconds. An unknown time is the start of 1970."""
    moment = moment or _UNKNOWN
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat("T", "microseconds")[: -len("+00:00")] + "Z"


def by_date(moment: datetime | None, *, descending: bool) -> tuple[bool, datetime | None]:
    """Return a sort key for times in a list with this direction. Unknown times come last in both directions."""
    return (moment is not None) == descending, moment


@lru_cache(maxsize=20_000)
def number(*names: str) -> int:
    """Return a stable positive id of 31 bits for a resource that has only names."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:4], "big") >> 1
