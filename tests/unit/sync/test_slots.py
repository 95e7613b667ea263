"""An unresponsive region holds a share of the slots, is paused, and is probed by one job at a time."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest

from tagferry.errors import Expired, NotFound, TagferryError, Unavailable
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.breaker import IDLE_SECONDS, CircuitBreakers
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.sync.jobs.slots import FULL_SECONDS, PROVEN_SECONDS, QUIET_SECONDS, JobSlots
from tests.support.clock import Clock
from tests.support.metrics import sample

NORTH, EAST, WEST, SOUTH = (RegionId(name) for name in ("cn-north-4", "cn-east-3", "cn-west-1", "cn-south-1"))
SLOTS = 32
_numbers = count(1)
_JOB = SyncJob(
    id=0,
    request_id="call",
    created_at=datetime.now(UTC),
    updated_at=datetime.now(UTC),
    domain_id="",
    domain_name="",
    operator_id="",
    operator_name="",
    source_region=NORTH,
    namespace=Namespace("team"),
    repository=Repository("app"),
    tag=Tag("v1"),
    target_region=EAST,
    target_namespace=Namespace("team"),
    override=False,
    status=JobStatus.RUNNING,
    reason="",
    digest=None,
    bytes_total=0,
    bytes_done=0,
    rewritten=None,
)


SILENT = Unavailable("it said nothing", unresponsive=EAST)


def job(target: RegionId, source: RegionId = NORTH) -> SyncJob:
    return replace(_JOB, id=next(_numbers), source_region=source, target_region=target)


def fill(slots: JobSlots, target: RegionId, source: RegionId = NORTH) -> list[SyncJob]:
    """Start as many jobs between two regions as may start now, as a claim does."""
    capacity, begun = slots.capacity(), []
    for _ in range(slots.free):
        if not capacity.take((source, target)):
            break
        begun.append(job(target, source))
        slots.begin(begun[-1])
    return begun


def paused(region: RegionId) -> float | None:
    return sample("tagferry_region_paused", region=region)


def test_an_unsure_pair_gets_a_share_and_all_such_pairs_half():
    slots = JobSlots(SLOTS, clock=Clock())

    assert [len(fill(slots, target)) for target in (EAST, WEST, SOUTH)] == [8, 8, 0]
    assert slots.free == 16


def test_a_pair_with_progress_gets_every_slot():
    slots = JobSlots(SLOTS, clock=Clock())
    slots.record_progress((NORTH, EAST))

    assert len(fill(slots, EAST)) == SLOTS
    assert slots.free == 0


def test_slots_of_jobs_without_progress_become_available_to_other_pairs():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    slots.record_progress((NORTH, EAST))
    stuck = fill(slots, EAST)

    clock.now += QUIET_SECONDS + 0.1
    assert slots.observe([]) is True
    assert slots.free == SLOTS // 2
    assert fill(slots, EAST) == []
    slots.record_progress((NORTH, SOUTH))
    assert len(fill(slots, SOUTH)) == SLOTS // 2

    slots.observe([stuck[0]])
    assert slots.free == 0


def test_many_unresponsive_regions_leave_capacity_for_unsure_pairs():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    for number in range(10):
        fill(slots, RegionId(f"silent-{number}"))
        clock.now += QUIET_SECONDS + 0.1

    assert len(fill(slots, SOUTH)) > 1


def test_the_total_of_jobs_is_bounded_however_many_regions_are_unresponsive():
    slots, clock = JobSlots(SLOTS, clock=(clock := Clock())), clock
    begun = 0
    for number in range(20):
        target = RegionId(f"region-{number}")
        slots.record_progress((NORTH, target))
        begun += len(fill(slots, target))
        clock.now += QUIET_SECONDS + 0.1

    assert 4 * SLOTS < begun <= 4 * SLOTS + 20


def test_a_pair_without_jobs_may_start_one_if_all_slots_are_taken_for_long():
    """A registry that trickles makes progress and could hold all slots indefinitely."""
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    slots.record_progress((NORTH, EAST))
    trickling = fill(slots, EAST)

    assert fill(slots, SOUTH) == []
    clock.now += FULL_SECONDS + 0.1
    slots.observe(trickling)
    assert fill(slots, EAST) == []
    for _ in range(5):
        (one,) = fill(slots, SOUTH)
        assert fill(slots, SOUTH) == []
        assert len(fill(slots, WEST)) <= 1
        slots.end(one)
        slots.observe(trickling)


def test_slots_that_become_free_in_time_are_left_to_the_order_of_the_queue():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    slots.record_progress((NORTH, EAST))
    running = fill(slots, EAST)
    for _ in range(10):
        clock.now += FULL_SECONDS - 0.1
        slots.observe(running)
        assert slots.free == 0
        slots.end(running.pop())
        running += fill(slots, EAST)
        assert len(running) == SLOTS


def test_with_one_slot_an_unresponsive_region_leaves_capacity_for_another():
    slots = JobSlots(1, clock=(clock := Clock()))

    assert len(fill(slots, EAST)) == 1
    clock.now += QUIET_SECONDS + 0.1
    assert len(fill(slots, SOUTH)) == 1


def test_progress_of_long_ago_proves_nothing():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    slots.record_progress((NORTH, EAST))
    clock.now += PROVEN_SECONDS + 1

    assert len(fill(slots, EAST)) == SLOTS // 4


def test_an_unresponsive_region_is_paused_and_probed_by_one_job_at_a_time():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    for one in fill(slots, EAST):
        slots.end(one, error=SILENT)
    assert slots.paused_regions[EAST].reason == "it said nothing"
    assert paused(EAST) == 1
    assert fill(slots, EAST) == []
    assert len(fill(slots, SOUTH)) == 8

    for _ in range(3):
        clock.now += 31
        (probe,) = fill(slots, EAST)
        assert fill(slots, EAST) == []
        slots.end(probe, error=SILENT)
        assert fill(slots, EAST) == []

    clock.now += 31
    (probe,) = fill(slots, EAST)
    slots.end(probe)
    assert slots.paused_regions == {}
    assert paused(EAST) == 0
    assert len(fill(slots, EAST)) > 8


def test_a_pause_ends_if_no_job_could_probe_the_region():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    for one in fill(slots, EAST):
        slots.end(one, error=SILENT)
    clock.now += 31
    (probe,) = fill(slots, EAST)
    clock.now += 2 * IDLE_SECONDS
    slots.observe([])
    assert paused(EAST) == 1

    slots.end(probe, error=SILENT)
    clock.now += 31 + IDLE_SECONDS
    slots.observe([])

    assert slots.paused_regions == {}
    assert paused(EAST) == 0


def test_a_probe_that_makes_progress_need_not_end_first():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    (first, *_) = fill(slots, EAST)
    slots.end(first, error=SILENT)
    clock.now += 31
    (probe,) = fill(slots, EAST)

    slots.observe([probe])

    assert slots.paused_regions == {}


def test_a_cancelled_probe_is_replaced_by_another_one():
    slots = JobSlots(SLOTS, clock=(clock := Clock()))
    (first, *others) = fill(slots, EAST)
    slots.end(first, error=SILENT)
    for other in others:
        slots.end(other, is_known=False)
    clock.now += 31
    (probe,) = fill(slots, EAST)

    slots.end(probe, is_known=False)

    assert EAST in slots.paused_regions
    assert len(fill(slots, EAST)) == 1


def test_one_job_without_a_response_does_not_pause_a_region_that_responds_to_others():
    slots = JobSlots(SLOTS, clock=Clock())
    first, second, *_ = fill(slots, EAST)
    slots.end(first)

    slots.end(second, error=SILENT)

    assert slots.paused_regions == {}


@pytest.mark.parametrize(
    ("error", "is_known", "capacity"),
    [
        (None, True, SLOTS),
        (NotFound("tag", "v1"), True, SLOTS),
        (Unavailable("it cannot be reached"), True, SLOTS // 4),
        (Expired("it took too long"), True, SLOTS // 4),
        (None, False, SLOTS // 4),
    ],
    ids=["success", "no such tag", "unreachable", "too slow", "cancelled"],
)
def test_only_a_job_that_proves_both_regions_responsive_makes_a_pair_sure(
    error: TagferryError | None, is_known: bool, capacity: int
):
    slots = JobSlots(SLOTS, clock=Clock())
    for one in fill(slots, EAST):
        slots.end(one, error=error, is_known=is_known)

    assert slots.paused_regions == {}
    assert len(fill(slots, EAST)) == capacity


def test_an_unresponsive_source_is_paused_with_all_its_pairs_and_no_others():
    slots = JobSlots(SLOTS, clock=Clock())
    (first, *_) = fill(slots, SOUTH, source=EAST)

    slots.end(first, error=SILENT)

    assert fill(slots, WEST, source=EAST) == []
    assert fill(slots, NORTH, source=EAST) == []
    assert len(fill(slots, SOUTH, source=NORTH)) > 0


def test_the_pause_between_probes_grows_to_half_a_minute():
    breakers = CircuitBreakers(clock=(clock := Clock()))
    breakers.record_failure(EAST, "silent")
    pauses = []
    for _ in range(6):
        began = clock.now
        while breakers.capacity()[EAST] == 0:
            clock.now += 1
        pauses.append(clock.now - began)
        breakers.record_failure(EAST, "silent")

    assert pauses == [2, 4, 8, 16, 30, 30]
