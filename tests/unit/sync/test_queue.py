"""The order and the limits of claims, and the jobs of lost workers."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from tagferry import bounds
from tagferry.accounts.model import Caller
from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import message_bus_of
from tagferry.db.engine import Database
from tagferry.names import Namespace, RegionId, Tag
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.model import JobHandle, JobStatus, JobUpdate, NewJob, SyncJob, SyncRequest
from tagferry.sync.jobs.queue import JobQueue, QueueLimits
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.store import JobStore
from tests.unit.sync.conftest import NORTH, RELEASE, REPO, SOUTH, TEAM, V1, record_worker

CALLER = Caller(user_id="u" * 32, name="carol", domain_id="d" * 32, domain_name="acme", is_admin=False)
WEST = RegionId("cn-west-1")
ME, OTHER = 1, 2


@dataclass
class Line:
    """A queue and its jobs."""

    database: Database
    limits: QueueLimits = field(default_factory=QueueLimits)
    regions: tuple[RegionId, ...] = (NORTH, SOUTH, WEST)
    numbers: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        self.bus = message_bus_of(self.database, Supervisor())
        self.membership = coordination_of(self.database)
        self.jobs = JobStore(self.database, self.bus)
        self.queue = JobQueue(self.database, self.bus, self.membership, regions=self.regions, limits=self.limits)

    async def add(
        self,
        *tags: str,
        organization: str = TEAM,
        to: RegionId = SOUTH,
        override: bool = False,
        is_automatic: bool = False,
    ) -> list[JobHandle]:
        request = SyncRequest(
            id=f"call-{next(self.numbers)}",
            caller=CALLER,
            source_region=NORTH,
            namespace=Namespace(organization),
            repository=REPO,
            tags=tuple(Tag(tag) for tag in tags),
            target_region=to,
            target_namespace=RELEASE,
            override=override,
            is_automatic=is_automatic,
        )
        places = await self.jobs.create(
            request, [NewJob(tag) for tag in request.tags], max_concurrent_requests_per_user=1000
        )
        return [places[tag] for tag in request.tags]

    async def claim(self, slots: int = 100, worker: int = ME) -> list[str]:
        return [job.tag for job in await self.claimed(slots, worker)]

    async def claimed(self, slots: int = 100, worker: int = ME) -> list[SyncJob]:
        await record_worker(self.database, worker)
        return await self.queue.claim(worker, slots)

    async def end(self, job_id: int, status: JobStatus = JobStatus.SUCCESS, worker: int = ME) -> None:
        await self.jobs.end(JobUpdate(job_id, status), worker_id=worker)


@pytest.fixture
def line(database: Database) -> Line:
    return Line(database)


async def test_jobs_are_claimed_in_order_and_only_once(line: Line):
    await line.add("t1", "t2", "t3")

    assert await line.claim(2) == ["t1", "t2"]
    assert await line.claim(2, OTHER) == ["t3"]
    assert await line.claim(2) == []


async def test_a_claimed_job_is_recorded_as_running(line: Line):
    await line.add(V1)

    (job,) = await line.claimed()

    assert (job.status, job.attempts) == (JobStatus.RUNNING, 1)


async def test_no_slots_claim_nothing(line: Line):
    await line.add(V1)

    assert await line.claim(0) == []


async def test_a_single_tag_does_not_wait_for_the_many_of_another_organization(line: Line):
    await line.add(*(f"many-{number}" for number in range(200)), organization="big")
    assert await line.claim(20) == [f"many-{number}" for number in range(20)]

    await line.add("one", organization="small")

    assert await line.claim(2) == ["many-20", "one"]


async def test_organizations_are_served_round_robin(line: Line):
    for organization in ("a", "b", "c"):
        await line.add(*(f"{organization}{number}" for number in range(3)), organization=organization)

    assert await line.claim(9) == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


async def test_many_small_requests_of_one_organization_gain_nothing_over_a_large_one(line: Line):
    for number in range(4):
        await line.add(f"a{number}", organization="a")
    await line.add("b0", "b1", organization="b")

    assert await line.claim(4) == ["a0", "b0", "a1", "b1"]


async def test_an_organization_gains_nothing_from_a_long_pause(line: Line):
    await line.add(*(f"a{number}" for number in range(6)), organization="a")
    await line.claim(4)

    await line.add("b0", "b1", organization="b")

    assert await line.claim(4) == ["a4", "b0", "a5", "b1"]


async def test_jobs_of_users_run_before_those_of_rules(line: Line):
    await line.add("auto-1", "auto-2", is_automatic=True)
    await line.add("manual")

    assert await line.claim() == ["manual", "auto-1", "auto-2"]


async def test_a_job_with_another_override_waits_for_the_one_before_it(line: Line):
    (first,) = await line.add(V1)
    (second,) = await line.add(V1, override=True)
    (third,) = await line.add(V1)
    assert len({first.id, second.id, third.id}) == 3

    order = []
    for _ in range(3):
        (job,) = await line.claimed()
        assert await line.claim() == []
        order.append(job.id)
        await line.end(job.id)

    assert order == [first.id, second.id, third.id]


async def test_an_equal_job_is_joined_whether_it_waits_or_runs(line: Line):
    (waiting,) = await line.add(V1)
    assert await line.add(V1) == [JobHandle(waiting.id, JobStatus.WAITING, override=False, is_joined=True)]
    await line.claim()
    assert await line.add(V1) == [JobHandle(waiting.id, JobStatus.RUNNING, override=False, is_joined=True)]
    await line.end(waiting.id)

    (again,) = await line.add(V1)
    assert again.id != waiting.id
    assert not again.is_joined


async def test_the_job_behind_a_cancelled_one_continues(line: Line):
    (first,) = await line.add(V1)
    await line.add(V1, override=True)

    await line.jobs.cancel([first.id], reason="no longer wanted")

    assert [job.override for job in await line.claimed()] == [True]


async def test_all_workers_together_run_no_more_than_the_limit(database: Database):
    line = Line(database, QueueLimits(jobs=3))
    await line.add("t1", "t2", "t3", "t4", "t5")

    mine = await line.claimed(2)
    assert [len(mine), len(await line.claim(2, OTHER)), len(await line.claim(2, OTHER))] == [2, 1, 0]

    await line.end(mine[0].id)
    assert await line.claim(2, OTHER) == ["t4"]


async def test_jobs_to_a_full_region_do_not_block_others(database: Database):
    line = Line(database, QueueLimits(region_jobs={SOUTH: 2}))
    await line.add(*(f"south-{number}" for number in range(50)))
    await line.add("west-0", "west-1", to=WEST)

    assert await line.claim(4) == ["south-0", "south-1", "west-0", "west-1"]
    assert await line.claim(4, OTHER) == []


async def test_jobs_per_minute_to_a_region_are_limited(database: Database):
    line = Line(database, QueueLimits(region_starts={SOUTH: 2}))
    await line.add("t1", "t2", "t3")

    for job in await line.claimed():
        await line.end(job.id)

    assert await line.claim() == []


async def test_jobs_of_unknown_regions_are_left_to_other_workers(database: Database):
    line = Line(database, regions=(NORTH, SOUTH))
    await line.add("west", to=WEST)
    await line.add("south")

    assert await line.claim() == ["south"]


async def test_released_jobs_are_next_again(line: Line):
    await line.add("t1", "t2", "t3")
    await line.claim(2)

    assert await line.queue.release(ME) == 2

    assert await line.claim(3, OTHER) == ["t1", "t2", "t3"]


async def test_jobs_of_lost_workers_are_requeued(line: Line, database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.coordination.postgres.GRACE_SECONDS", 0.0)
    await line.add("t1", "t2")
    await line.claim(1, 77)
    me = await line.membership.join()

    assert await line.queue.requeue_lost() == {77: 1}
    assert await line.queue.requeue_lost() == {}

    (first, second) = await line.claimed(2, me)
    assert (first.tag, first.attempts, second.tag, second.attempts) == ("t1", 2, "t2", 1)
    await line.membership.leave()


async def test_jobs_whose_claim_got_no_response_are_requeued(line: Line):
    await line.add("t1", "t2")
    first, _ = await line.claimed(2)

    assert await line.queue.release_unknown(ME, [first.id]) == 1

    assert await line.claim(2) == ["t2"]


async def lose_the_worker(line: Line) -> None:
    """Lose the worker, as if its process had been killed."""
    async with line.database.write() as session:
        assert line.queue is not None
        await line.queue._delete_worker(session, ME, is_lost=True)


async def test_a_job_whose_workers_are_lost_repeatedly_fails(line: Line):
    (killer,) = await line.add("killer")
    for _ in range(bounds.JOB_LOST_WORKERS - 1):
        assert await line.claim() == ["killer"]
        await lose_the_worker(line)
        assert await line.jobs.ends([killer.id]) == {}
    assert await line.claim() == ["killer"]

    await lose_the_worker(line)

    assert await line.jobs.ends([killer.id]) == {killer.id: JobStatus.FAILED}
    (job,), _ = await RepositoryJobs(line.database).of_repository(NORTH, TEAM, REPO, limit=1)
    assert job.reason.startswith("its worker was lost 5 times")


async def test_jobs_beside_one_that_kills_its_worker_do_not_fail_with_it(line: Line):
    places = await line.add("killer", "t1", "t2", "t3")
    rounds: list[list[str]] = []
    while claimed := await line.claimed():
        rounds.append([job.tag for job in claimed])
        if "killer" in rounds[-1]:
            await lose_the_worker(line)
        else:
            for job in claimed:
                await line.end(job.id)
        assert len(rounds) < 20

    ends = await line.jobs.ends([place.id for place in places])
    assert [ends[place.id] for place in places] == [JobStatus.FAILED, *[JobStatus.SUCCESS] * 3]
    assert rounds[:3] == [["killer", "t1", "t2", "t3"]] * 3


async def test_a_regular_stop_of_a_worker_does_not_count_as_a_loss(line: Line):
    await line.add("t1")
    for _ in range(2 * bounds.JOB_LOST_WORKERS):
        assert await line.claim() == ["t1"]
        assert await line.queue.release(ME) == 1
