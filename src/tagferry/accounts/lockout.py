"""Count failed authentications, and lock a name or key for a while after too many.

Each address has its own counts, so that made-up names from one address cannot evict those of another.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from tagferry import bounds
from tagferry.addresses import client_source
from tagferry.errors import LoginThrottled
from tagferry.metrics import BOUND_REACHED, LOCKOUTS, LOGIN_FAILURES

_LONGEST = 64
"""Characters of the longest name or key. Longer ones are cut to bound the memory."""
_EVICTION_SEARCH = 100


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


_Names = OrderedDict[str, _Failures]
"""Failures from one address by the claimed name or key, the latest last."""


class OnResult(Protocol):
    """Receives failures, and the first right login after failures."""

    def __call__(self, claimed: str, address: str, *, is_key: bool, has_failed: bool) -> None:
        """Receive one."""
        ...


class Lockout:
    """Counts failures by claimed name and address, so that one client cannot lock out another.

    A reload changes `attempts` and `seconds`.

    Each address has its own tables of bounded size, one for names and one for access keys. When all names in it are
    locked, a further name is refused, since it would evict a lock. A further access key evicts the first one: its
    secret cannot be guessed.

    Attributes:
        on_result: receives what was counted here, for the other processes.
    """

    def __init__(
        self, *, attempts: int = 5, seconds: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.attempts = attempts
        self.seconds = seconds
        self._clock = clock
        self._sources: OrderedDict[tuple[str, bool], _Names] = OrderedDict()
        self.on_result: OnResult | None = None

    def check(self, claimed: str, address: str, *, is_key: bool = False) -> None:
        """Raise LoginThrottled while the name or key is locked."""
        names = self._sources.get((client_source(address), is_key)) if self._sources else None
        if names is None:
            return
        claimed = claimed[:_LONGEST]
        failures = names.get(claimed)
        if failures is None:
            if not is_key and len(names) >= bounds.LOCKED_NAMES:
                self._require_room(names, address)
        elif (left := self._left(failures)) <= 0:
            del names[claimed]
        elif failures.count >= self.attempts:
            raise LoginThrottled(
                f'"{claimed}" is locked after {failures.count} failed authentications; try again in {left:.0f} s',
                retry_after=left,
            )

    def failed(self, claimed: str, address: str, *, is_key: bool = False) -> None:
        """Count a failed attempt, and report it."""
        LOGIN_FAILURES.inc()
        # Those that other processes report are counted in their metrics.
        if self.count_failure(claimed, address, is_key=is_key) == self.attempts:
            LOCKOUTS.inc()
        if self.on_result is not None:
            self.on_result(claimed[:_LONGEST], address, is_key=is_key, has_failed=True)

    def succeeded(self, claimed: str, address: str, *, is_key: bool = False) -> None:
        """Forget the failures, and report it if there were any."""
        if self.forget(claimed, address, is_key=is_key) and self.on_result is not None:
            self.on_result(claimed[:_LONGEST], address, is_key=is_key, has_failed=False)

    def count_failure(self, claimed: str, address: str, *, is_key: bool = False) -> int:
        """Count a failed attempt, in this or another process; returns the failures of this name so far."""
        source, claimed = (client_source(address), is_key), claimed[:_LONGEST]
        names = self._sources.setdefault(source, OrderedDict())
        self._sources.move_to_end(source)
        if claimed not in names and len(names) >= bounds.LOCKED_NAMES:
            if not is_key and all(map(self._is_locked, names.values())):
                # `check` refuses further names, but another process may not know of these locks yet.
                return 0
            self._forget_one(names)
        failures = names.setdefault(claimed, _Failures(count=0, last=0.0))
        failures.count = failures.count + 1 if self._left(failures) > 0 else 1
        failures.last = self._clock()
        names.move_to_end(claimed)
        if len(self._sources) > bounds.LOCKOUT_ADDRESSES:
            self._evict()
        return failures.count

    def forget(self, claimed: str, address: str, *, is_key: bool = False) -> bool:
        """Forget the failures; returns whether there were any."""
        if not self._sources:
            return False
        source = client_source(address), is_key
        names = self._sources.get(source)
        if names is None:
            return False
        failures = names.pop(claimed[:_LONGEST], None)
        if not names:
            del self._sources[source]
        return failures is not None

    def is_suspect(self, address: str) -> bool:
        """Return whether a password from this address was wrong lately."""
        names = self._sources.get((client_source(address), False)) if self._sources else None
        return names is not None and any(self._left(failures) > 0 for failures in names.values())

    def _left(self, failures: _Failures) -> float:
        return failures.last + self.seconds - self._clock()

    def _is_locked(self, failures: _Failures) -> bool:
        return failures.count >= self.attempts and self._left(failures) > 0

    def _require_room(self, names: _Names, address: str) -> None:
        left = min(self._left(failures) for failures in names.values())
        if all(map(self._is_locked, names.values())):
            BOUND_REACHED.labels(bound="locked_names").inc()
            raise LoginThrottled(
                f"{len(names)} names are locked for {address} after failed authentications, so no other name is "
                f"accepted from this address; try again in {left:.0f} s",
                retry_after=left,
            )

    def _forget_one(self, names: _Names) -> None:
        """Evict a name, if possible one that is not locked."""
        open_ones = (name for name, failures in names.items() if not self._is_locked(failures))
        del names[next(open_ones, next(iter(names)))]

    def _evict(self) -> None:
        """Evict the address whose last failure is oldest, if possible one without a lock."""
        oldest = islice(self._sources.items(), _EVICTION_SEARCH)
        free = (source for source, names in oldest if not any(map(self._is_locked, names.values())))
        del self._sources[next(free, next(iter(self._sources)))]
        BOUND_REACHED.labels(bound="lockout_addresses").inc()
