"""Anonymous requests, which anyone can send: counted, so that they do not fill the database."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tagferry import bounds
from tagferry.addresses import client_source
from tagferry.audit.model import AuditRecord

WINDOW_SECONDS = 60.0


@dataclass(slots=True)
class _Counted:
    last: AuditRecord
    times: int


class AnonymousRequests:
    """The anonymous requests of the current minute.

    The first request of an address with a status gets a record of its own. The others are counted, and get one record
    together at the end of the minute. If too many addresses send requests, those of all further addresses are counted
    together.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_at: float | None = None
        self._seen: set[tuple[str, int]] = set()
        self._counted: dict[tuple[str, int], _Counted] = {}

    @property
    def seconds_left(self) -> float | None:
        """The seconds until counts are due; None if nothing has been counted."""
        if self._ends_at is None or not self._counted:
            return None
        return max(0.0, self._ends_at - self._clock())

    def admit(self, record: AuditRecord) -> bool:
        """Return whether this request gets a record of its own. Otherwise it is counted."""
        if self._ends_at is None:
            self._ends_at = self._clock() + WINDOW_SECONDS
        key = client_source(record.address), record.status
        if key not in self._seen:
            if len(self._seen) < bounds.AUDITED_ANONYMOUS_ADDRESSES:
                self._seen.add(key)
                return True
            key, record = ("", 0), replace(record, address="")
        counted = self._counted.setdefault(key, _Counted(record, 0))
        counted.last, counted.times = record, counted.times + 1
        return False

    def due(self, *, at_once: bool = False) -> list[AuditRecord]:
        """Return the records of counted requests if their minute is over, or at once, and begin a new minute."""
        if self._ends_at is None or (not at_once and self._clock() < self._ends_at):
            return []
        counted = [replace(one.last, times=one.times) for one in self._counted.values()]
        self._ends_at = None
        self._seen.clear()
        self._counted.clear()
        return counted
