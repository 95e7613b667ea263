"""Circuit breakers: a region that does not respond is paused, and one job at a time probes it.

Each process has its own breakers, since the cause may be its own network.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from tagferry.metrics import REGIONS_PAUSED
from tagferry.names import RegionId

_SHORTEST, _LONGEST = 2.0, 30.0
"""Seconds before the first probe, and the longest pause; each failed probe doubles the pause."""

IDLE_SECONDS = 60.0
"""Seconds after an overdue probe when a pause ends: no job waits for the region, so its state is unknown."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pause:
    """Why jobs from and to a region are paused.

    Attributes:
        since: when the region first failed to respond.
        reason: the request that got no response; for operators only, since it may name images of any organization.
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
    """The paused regions.

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
        """Return how many jobs from or to each paused region may start: one if a probe is due, else none."""
        now = self._clock()
        return {region: 1 if one.probe is None and one.until <= now else 0 for region, one in self._open.items()}

    def begin(self, job_id: int, regions: tuple[RegionId, RegionId]) -> None:
        """Record that a job starts; it probes those of its regions that are paused."""
        for region in regions:
            if (one := self._open.get(region)) is not None and one.probe is None:
                one.probe = job_id

    def end(self, job_id: int) -> None:
        """Record that a job ended, so that another job may probe the regions it has not reached."""
        for one in self._open.values():
            if one.probe == job_id:
                one.probe = None

    def forget_idle(self) -> None:
        """End the pauses of regions that no job waits for, so that outdated pauses are not reported."""
        now = self._clock()
        for region, one in list(self._open.items()):
            if one.probe is None and now - one.until > IDLE_SECONDS:
                del self._open[region]
                REGIONS_PAUSED.labels(region=region).set(0)
                log.info("resumed an idle region", region=region)

    def forget(self, region: RegionId) -> None:
        """End the pause of a region whose registry has changed, or which was removed."""
        if self._open.pop(region, None) is not None:
            REGIONS_PAUSED.labels(region=region).set(0)

    def record_failure(self, region: RegionId, reason: str) -> None:
        """Pause a region that did not respond, or extend its pause."""
        now, known = self._clock(), self._open.get(region)
        if known is None:
            self._open[region] = _Open(Pause(datetime.now(UTC), reason), _SHORTEST, now + _SHORTEST)
            REGIONS_PAUSED.labels(region=region).set(1)
            log.warning("paused an unresponsive region", region=region, reason=reason)
        elif known.until <= now:
            # Failures of jobs that started before the last probe are no new evidence.
            known.seconds = min(_LONGEST, known.seconds * 2)
            known.until = now + known.seconds

    def record_success(self, region: RegionId) -> None:
        """Record that a region responded, and end its pause."""
        if (one := self._open.pop(region, None)) is None:
            return
        REGIONS_PAUSED.labels(region=region).set(0)
        seconds = round((datetime.now(UTC) - one.pause.since).total_seconds())
        log.info("resumed a region", region=region, seconds=seconds)
