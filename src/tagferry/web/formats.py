"""How SWR writes dates and ids."""

import hashlib
from datetime import UTC, datetime

_UNKNOWN = datetime.fromtimestamp(0, UTC)


def date(moment: datetime | None) -> str:
    """A moment as SWR writes it, in UTC with microseconds; for an unknown one the start of 1970."""
    return (moment or _UNKNOWN).astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def by_date(moment: datetime | None, *, descending: bool) -> tuple[bool, datetime | None]:
    """A sort key for moments of a list in this order, whose unknown ones come last either way."""
    return (moment is not None) == descending, moment


def number(*names: str) -> int:
    """A stable positive id of 31 bits for something that registries know only by its name."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:4], "big") >> 1
