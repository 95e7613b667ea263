"""Shares of this process's job slots, so that unresponsive registries cannot occupy all of them.

A slot cannot be reclaimed from a job that waits for an unresponsive registry. A pair of regions (source, target) is
**unsure** until a job between them has made progress, and **quiet** while none of its running jobs makes any. Each
unsure or quiet pair gets a share of the slots, and all pairs of the same kind together get at most half of them. Jobs
on quiet pairs beyond that half are not counted, so that the other half stays available (docs/decisions/0023).

A registry that trickles does make progress and could hold every slot for hours. So when no slot has been free for
`FULL_SECONDS`, a pair without running jobs may start one extra job.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tagferry.errors import Expired, TagferryError, Unavailable
from tagferry.names import RegionId
from tagferry.sync.jobs.breaker import CircuitBreakers, Pause
from tagferry.sync.jobs.model import SyncJob

RegionPair = tuple[RegionId, RegionId]
"""A source region and a target region."""

QUIET_SECONDS = 1.0
"""Seconds without progress of any of its running jobs after which a pair is quiet."""
FULL_SECONDS = 2.0
"""Seconds without a free slot after which a pair without running jobs may start an extra job."""
PROVEN_SECONDS = 60.0
"""Seconds after its last progress during which a pair without running jobs counts as sure."""
_SHARE = 4
"""The share of an unsure pair is the number of slots divided by this."""
_OVERCOMMIT = 4
"""Jobs that may run at once, uncounted ones included, as a multiple of the number of slots."""


@dataclass(slots=True)
class Capacity:
    """How many jobs may start now, computed for each claim.

    Attributes:
        share: jobs between a pair without history.
        unsure: jobs between all unsure pairs together.
        sure: the pairs without a limit.
        quiet: jobs by quiet pair.
        left: jobs by each other pair that has running jobs.
        regions: jobs from or to each paused region.
        unresponsive: the regions that currently do not respond.
    """

    share: int
    unsure: int
    sure: Collection[RegionPair] = ()
    quiet: dict[RegionPair, int] = field(default_factory=dict)
    left: dict[RegionPair, int] = field(default_factory=dict)
    regions: dict[RegionId, int] = field(default_factory=dict)
    unresponsive: Collection[RegionId] = ()

    def take(self, pair: RegionPair) -> bool:
        """Take capacity for one job of this pair; returns whether there was any."""
        ends = set(pair)
        if any(self.regions.get(region, 1) <= 0 for region in ends):
            return False
        if pair in self.quiet:
            if self.quiet[pair] <= 0:
                return False
            self.quiet[pair] -= 1
        elif pair not in self.sure:
            left = self.left.get(pair, self.share)
            if min(left, self.unsure) <= 0:
                return False
            self.left[pair] = left - 1
            self.unsure -= 1
        for region in ends & self.regions.keys():
            self.regions[region] -= 1
        return True

    def closed(self, regions: Iterable[RegionId]) -> list[RegionPair]:
        """Return the pairs of these regions that have no capacity left."""
        full = [pair for pair, left in (self.left | self.quiet).items() if left <= 0 and pair not in self.sure]
        if self.unsure > 0:
            return full
        known, others = list(regions), {*self.sure, *self.quiet}
        unsure = [pair for source in known for target in known if (pair := (source, target)) not in others]
        return [*unsure, *(pair for pair in full if pair in self.quiet)]


@dataclass(slots=True)
class _Traffic:
    running: int = 0
    busy_since: float = 0.0
    heard_at: float | None = None


class JobSlots:
    """The job slots of this process, shared among pairs of regions.

    Args:
        slots: jobs that run at once.
        breakers: the circuit breakers of the regions; by default new ones.
        clock: seconds, monotonic.
    """

    def __init__(
        self, slots: int, *, breakers: CircuitBreakers | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots = slots
        self._half = max(1, slots // 2)
        self._share = max(1, slots // _SHARE)
        self._clock = clock
        self._breakers = breakers or CircuitBreakers(clock=clock)
        self._pairs: dict[RegionPair, _Traffic] = {}
        self._full_since: float | None = None

    @property
    def free(self) -> int:
        """Return how many more jobs may start now; one if all slots have been in use for `FULL_SECONDS`."""
        return self._unused or int(self._is_stuck)

    @property
    def _is_stuck(self) -> bool:
        return self._full_since is not None and self._clock() - self._full_since > FULL_SECONDS

    @property
    def _unused(self) -> int:
        running = sum(traffic.running for traffic in self._pairs.values())
        quiet = sum(traffic.running for traffic in self._pairs.values() if self._is_quiet(traffic))
        counted = running - max(0, quiet - self._slots // 2)
        return max(0, min(self._slots - counted, _OVERCOMMIT * self._slots - running))

    @property
    def paused_regions(self) -> Mapping[RegionId, Pause]:
        """The paused regions."""
        return self._breakers.paused_regions

    def capacity(self) -> Capacity:
        """Return how many jobs may start now, by pair."""
        if not self._unused and self._is_stuck:
            busy = {pair: 0 for pair, traffic in self._pairs.items() if traffic.running}
            return Capacity(share=1, unsure=1, left=busy, regions=self._breakers.capacity())
        quiet = {pair: traffic.running for pair, traffic in self._pairs.items() if self._is_quiet(traffic)}
        unsure = {
            pair: traffic for pair, traffic in self._pairs.items() if pair not in quiet and not self._is_sure(traffic)
        }
        return Capacity(
            share=self._share,
            unsure=max(2, self._half) - sum(traffic.running for traffic in unsure.values()),
            sure={pair for pair in self._pairs if pair not in unsure and pair not in quiet},
            quiet=self._left_for_quiet(quiet),
            left={pair: self._share - traffic.running for pair, traffic in unsure.items()},
            regions=self._breakers.capacity(),
            unresponsive={target for _, target in quiet},
        )

    def free_between(self, pair: RegionPair) -> int:
        """Return how many more jobs of a pair may start now."""
        capacity = self.capacity()
        return sum(capacity.take(pair) for _ in range(self.free))

    def _left_for_quiet(self, running: Mapping[RegionPair, int]) -> dict[RegionPair, int]:
        together = self._half - sum(min(number, self._share) for number in running.values())
        left = {}
        for pair, number in running.items():
            left[pair] = max(0, min(self._share - number, together))
            together -= left[pair]
        return left

    def begin(self, job: SyncJob) -> None:
        """Count a job that starts."""
        traffic = self._pairs.setdefault(_pair_of(job), _Traffic())
        if not traffic.running:
            traffic.busy_since = self._clock()
        traffic.running += 1
        self._note_full()
        self._breakers.begin(job.id, _pair_of(job))

    def end(self, job: SyncJob, *, error: TagferryError | None = None, is_known: bool = True) -> None:
        """Count a job that ended.

        Args:
            job: the job.
            error: the error it failed with, if any.
            is_known: whether the end reflects the state of the regions; not so if the job was cancelled or timed out.
        """
        pair = _pair_of(job)
        self._pairs[pair].running -= 1
        self._note_full()
        if isinstance(error, Unavailable) and error.unresponsive is not None:
            silent = RegionId(error.unresponsive)
            if self._has_been_quiet(silent):
                self._breakers.record_failure(silent, error.message)
        elif isinstance(error, Unavailable):
            # The region responds, but the job made no progress.
            for region in pair if is_known and not isinstance(error, Expired) else ():
                self._breakers.record_success(region)
        elif is_known:
            self.record_progress(pair)
        self._breakers.end(job.id)

    def record_progress(self, pair: RegionPair) -> None:
        """Record that a job of a pair made progress, or that both regions responded."""
        self._pairs.setdefault(pair, _Traffic()).heard_at = self._clock()
        for region in pair:
            self._breakers.record_success(region)

    def is_responsive(self, pair: RegionPair) -> bool:
        """Return whether neither region is paused and the running jobs of the pair are not quiet."""
        traffic = self._pairs.get(pair)
        return self.paused_regions.keys().isdisjoint(pair) and (traffic is None or not self._is_quiet(traffic))

    def forget(self, region: RegionId) -> None:
        """Forget how a region responded: its registry has changed, or it was removed."""
        self._breakers.forget(region)
        for pair in [pair for pair, traffic in self._pairs.items() if region in pair and not traffic.running]:
            del self._pairs[pair]

    def observe(self, moved: Iterable[SyncJob]) -> bool:
        """Record which jobs made progress; returns whether quiet jobs may have freed capacity for others."""
        self._breakers.forget_idle()
        for pair in {_pair_of(job) for job in moved}:
            self.record_progress(pair)
        return any(map(self._is_quiet, self._pairs.values()))

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
        """Return whether no job of a region has made progress for a while.

        A registry that never sends one blob may still respond to other requests.
        """
        heard = [traffic.heard_at for pair, traffic in self._pairs.items() if region in pair and traffic.heard_at]
        return not heard or self._clock() - max(heard) > QUIET_SECONDS


def _pair_of(job: SyncJob) -> RegionPair:
    return job.source_region, job.target_region
