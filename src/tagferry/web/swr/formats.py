"""How SWR writes dates and ids."""

import hashlib
from datetime import UTC, datetime


def date(moment: datetime) -> str:
    """A moment as SWR writes it, in UTC with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def number(*names: str) -> int:
    """A stable positive id of 31 bits for something that registries know only by its name."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:4], "big") >> 1
