"""Circuit breakers: a region that does not answer is paused, and one job at a time probes it.

Each process has its own, since the reason may be the process's own network.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from tagferry.metrics import REGIONS_PAUSED
from tagferry.names import RegionId

_SHORTEST, _LONGEST = 2.0, 30.0
"""Seconds: the pause before the first probe, and the longest; each one that is not answered doubles it."""

IDLE_SECONDS = 60.0
"""A pause ends so long after a probe was due: nothing waits for the region then, and nobody knows how it is."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pause:
    """Why jobs from and to a region wait.

    Attributes:
        since: when the region was first found not to answer.
        reason: what it did not answer; for operators, since it may name anybody's images.
    """

    since: datetime
    reason: str


@dataclass(slots=True)
class _Open:
    pause: Pause
    seconds: float
    until: float
    probe: int | None = None


class CircuitBreakers:
    """The regions that are paused.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[RegionId, _Open] = {}

    @property
    def paused_regions(self) -> Mapping[RegionId, Pause]:
        """Every paused region."""
        return {region: one.pause for region, one in self._open.items()}

    def capacity(self) -> dict[RegionId, int]:
        """How many jobs from or to each paused region may begin: one once it is time to probe it, else none."""
        now = self._clock()
        return {region: 1 if one.probe is None and one.until <= now else 0 for region, one in self._open.items()}

    def begin(self, job_id: int, regions: tuple[RegionId, RegionId]) -> None:
        """Note that a job begins, which probes those of its regions that are paused."""
        for region in regions:
            if (one := self._open.get(region)) is not None and one.probe is None:
                one.probe = job_id

    def end(self, job_id: int) -> None:
        """Note that a job ended, so that another one may probe what it has not heard of."""
        for one in self._open.values():
            if one.probe == job_id:
                one.probe = None

    def forget_idle(self) -> None:
        """End the pauses of regions that nothing waits for, so that none is told of that may be long over."""
        now = self._clock()
        for region, one in list(self._open.items()):
            if one.probe is None and now - one.until > IDLE_SECONDS:
                del self._open[region]
                REGIONS_PAUSED.labels(region=region).set(0)
                log.info("a region is no longer paused: nothing waits for it", region=region)

    def record_failure(self, region: RegionId, reason: str) -> None:
        """Pause a region that did not answer, or for longer."""
        now, known = self._clock(), self._open.get(region)
        if known is None:
            self._open[region] = _Open(Pause(datetime.now(UTC), reason), _SHORTEST, now + _SHORTEST)
            REGIONS_PAUSED.labels(region=region).set(1)
            log.warning("paused a region that does not answer", region=region, reason=reason)
        elif known.until <= now:
            # What had begun before the last probe says nothing new.
            known.seconds = min(_LONGEST, known.seconds * 2)
            known.until = now + known.seconds

    def record_success(self, region: RegionId) -> None:
        """Note that a region answers, so that it is paused no longer."""
        if (one := self._open.pop(region, None)) is None:
            return
        REGIONS_PAUSED.labels(region=region).set(0)
        seconds = round((datetime.now(UTC) - one.pause.since).total_seconds())
        log.info("resumed a region that answers again", region=region, seconds=seconds)
