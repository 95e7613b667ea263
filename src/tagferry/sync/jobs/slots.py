"""Shares of this process's job slots, so that registries that do not answer cannot take all of them.

A slot cannot be taken back from a job that waits for a silent registry. So a way, from one region to another, is
**unsure** until a job on it has made progress, and **quiet** while none of its running jobs makes any. Each unsure or
quiet way gets a share of the slots, and those of a kind together half of them. Jobs on quiet ways beyond that half are
not counted, so that the other half remains for all other ways (docs/decisions/0023).

A registry that trickles makes progress, and could still hold every slot for hours. So when all slots have been taken
for a moment, a way on which nothing runs may begin one job in addition.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tagferry.errors import Expired, TagferryError, Unavailable
from tagferry.names import RegionId
from tagferry.sync.jobs.breaker import Breakers, Pause
from tagferry.sync.jobs.model import SyncJob

Way = tuple[RegionId, RegionId]
"""From one region to another."""

QUIET_SECONDS = 1.0
"""A way is unsure when none of its running jobs has made progress for this long."""
FULL_SECONDS = 2.0
"""After this long without a free slot, a way without running jobs may begin one in addition."""
PROVEN_SECONDS = 60.0
"""How long after its last progress a way without running jobs still counts as sure."""
_SHARE = 4
"""An unsure way's share is the number of slots divided by this."""
_CROWD = 4
"""At most this many times the number of slots run at once, uncounted jobs included."""


@dataclass(slots=True)
class Room:
    """How many jobs may begin now, computed for each claim.

    Attributes:
        share: on a way of which nothing is known.
        unsure: on all unsure ways together.
        sure: the ways on which any number may begin.
        quiet: on quiet ways.
        left: on those of the other ways that have running jobs.
        regions: from or to regions that are paused.
        silent: the regions that do not answer at present.
    """

    share: int
    unsure: int
    sure: Collection[Way] = ()
    quiet: dict[Way, int] = field(default_factory=dict)
    left: dict[Way, int] = field(default_factory=dict)
    regions: dict[RegionId, int] = field(default_factory=dict)
    silent: Collection[RegionId] = ()

    def take(self, way: Way) -> bool:
        """Begin a job on a way, if there is room for it."""
        ends = set(way)
        if any(self.regions.get(region, 1) <= 0 for region in ends):
            return False
        if way in self.quiet:
            if self.quiet[way] <= 0:
                return False
            self.quiet[way] -= 1
        elif way not in self.sure:
            left = self.left.get(way, self.share)
            if min(left, self.unsure) <= 0:
                return False
            self.left[way] = left - 1
            self.unsure -= 1
        for region in ends & self.regions.keys():
            self.regions[region] -= 1
        return True

    def closed(self, regions: Iterable[RegionId]) -> list[Way]:
        """The ways between these regions on which nothing may begin any more."""
        full = [way for way, left in (self.left | self.quiet).items() if left <= 0 and way not in self.sure]
        if self.unsure > 0:
            return full
        known, others = list(regions), {*self.sure, *self.quiet}
        unsure = [way for source in known for target in known if (way := (source, target)) not in others]
        return [*unsure, *(way for way in full if way in self.quiet)]


@dataclass(slots=True)
class _Traffic:
    running: int = 0
    busy_since: float = 0.0
    heard_at: float | None = None


class JobSlots:
    """The slots of this process, by ways, with the regions that are paused.

    Args:
        slots: jobs that run at once.
        breakers: which regions are paused; by default its own.
        clock: seconds, monotonic.
    """

    def __init__(
        self, slots: int, *, breakers: Breakers | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots = slots
        self._half = max(1, slots // 2)
        self._share = max(1, slots // _SHARE)
        self._clock = clock
        self._breakers = breakers or Breakers(clock=clock)
        self._ways: dict[Way, _Traffic] = {}
        self._full_since: float | None = None

    @property
    def free(self) -> int:
        """How many more jobs may begin now; one on an idle way where all slots have been taken for a moment."""
        return self._unused or int(self._is_stuck)

    @property
    def _is_stuck(self) -> bool:
        return self._full_since is not None and self._clock() - self._full_since > FULL_SECONDS

    @property
    def _unused(self) -> int:
        running = sum(traffic.running for traffic in self._ways.values())
        quiet = sum(traffic.running for traffic in self._ways.values() if self._is_quiet(traffic))
        counted = running - max(0, quiet - self._slots // 2)
        return max(0, min(self._slots - counted, _CROWD * self._slots - running))

    @property
    def pauses(self) -> Mapping[RegionId, Pause]:
        """The regions that are paused."""
        return self._breakers.pauses

    def room(self) -> Room:
        """How many jobs may begin on which ways now."""
        if not self._unused and self._is_stuck:
            busy = {way: 0 for way, traffic in self._ways.items() if traffic.running}
            return Room(share=1, unsure=1, left=busy, regions=self._breakers.room())
        quiet = {way: traffic.running for way, traffic in self._ways.items() if self._is_quiet(traffic)}
        unsure = {
            way: traffic for way, traffic in self._ways.items() if way not in quiet and not self._is_sure(traffic)
        }
        return Room(
            share=self._share,
            unsure=max(2, self._half) - sum(traffic.running for traffic in unsure.values()),
            sure={way for way in self._ways if way not in unsure and way not in quiet},
            quiet=self._left_for_quiet(quiet),
            left={way: self._share - traffic.running for way, traffic in unsure.items()},
            regions=self._breakers.room(),
            silent={target for _, target in quiet},
        )

    def _left_for_quiet(self, running: Mapping[Way, int]) -> dict[Way, int]:
        together = self._half - sum(min(number, self._share) for number in running.values())
        left = {}
        for way, number in running.items():
            left[way] = max(0, min(self._share - number, together))
            together -= left[way]
        return left

    def begin(self, job: SyncJob) -> None:
        """Count a job that begins."""
        traffic = self._ways.setdefault(_way(job), _Traffic())
        if not traffic.running:
            traffic.busy_since = self._clock()
        traffic.running += 1
        self._note_full()
        self._breakers.begin(job.id, _way(job))

    def end(self, job: SyncJob, *, error: TagferryError | None = None, is_known: bool = True) -> None:
        """Count a job that ended.

        Args:
            job: the job.
            error: why it failed, if it did.
            is_known: whether that says something of the regions; not if the job was cancelled or its time was over.
        """
        way = _way(job)
        self._ways[way].running -= 1
        self._note_full()
        if isinstance(error, Unavailable) and error.unresponsive is not None:
            silent = RegionId(error.unresponsive)
            if self._has_been_quiet(silent):
                self._breakers.fail(silent, error.message)
        elif isinstance(error, Unavailable):
            # It is not silent, but nothing gets through to it either.
            for region in way if is_known and not isinstance(error, Expired) else ():
                self._breakers.heard(region)
        elif is_known:
            self.heard(way)
        self._breakers.end(job.id)

    def heard(self, way: Way) -> None:
        """Note that a job on a way made progress, or that both its regions answered."""
        self._ways.setdefault(way, _Traffic()).heard_at = self._clock()
        for region in way:
            self._breakers.heard(region)

    def answers(self, way: Way) -> bool:
        """Return whether neither region is paused, and the running jobs between them do not wait for one."""
        traffic = self._ways.get(way)
        return self.pauses.keys().isdisjoint(way) and (traffic is None or not self._is_quiet(traffic))

    def watch(self, moved: Iterable[SyncJob]) -> bool:
        """Note which jobs have made progress; returns whether others may have got room because some do not."""
        self._breakers.forget_idle()
        for way in {_way(job) for job in moved}:
            self.heard(way)
        return any(map(self._is_quiet, self._ways.values()))

    def _note_full(self) -> None:
        if self._unused:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = self._clock()

    def _is_quiet(self, traffic: _Traffic) -> bool:
        since = max(traffic.busy_since, traffic.heard_at or 0.0)
        return traffic.running > 0 and self._clock() - since > QUIET_SECONDS

    def _is_sure(self, traffic: _Traffic) -> bool:
        if traffic.heard_at is None or self._is_quiet(traffic):
            return False
        return traffic.running > 0 or self._clock() - traffic.heard_at <= PROVEN_SECONDS

    def _has_been_quiet(self, region: RegionId) -> bool:
        """Return whether nothing that has to do with a region has made progress for a while.

        A single blob that a registry never sends does not mean that it answers nothing.
        """
        heard = [traffic.heard_at for way, traffic in self._ways.items() if region in way and traffic.heard_at]
        return not heard or self._clock() - max(heard) > QUIET_SECONDS


def _way(job: SyncJob) -> Way:
    return job.source_region, job.target_region
