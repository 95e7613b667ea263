"""A wait ends with its jobs or at its timeout; from then on, the database is not polled for them."""

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.sync.jobs.completion import JobWaiter
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.store import JobStore
from tests.unit.web.front import until

SOON = 0.01


class Ends(JobStore):
    """Ends of jobs in memory.

    Attributes:
        known: those that have ended.
        asked: what each question was about.
    """

    def __init__(self) -> None:
        self.known: dict[int, JobStatus] = {}
        self.asked: list[set[int]] = []

    async def ends(self, jobs: Collection[int]) -> dict[int, JobStatus]:
        self.asked.append(set(jobs))
        return {job_id: self.known[job_id] for job_id in jobs if job_id in self.known}


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
async def waiter(ends: Ends) -> AsyncIterator[JobWaiter]:
    waiter = JobWaiter(ends, LocalMessageBus(), look_seconds=SOON)
    yield waiter
    await waiter.close()


async def test_a_job_is_no_longer_polled_once_its_wait_has_timed_out(waiter: JobWaiter, ends: Ends):
    longer = asyncio.create_task(waiter.wait([2], seconds=60))
    assert await waiter.wait([1], seconds=5 * SOON) == {}
    ends.asked.clear()

    await until(lambda: len(ends.asked) >= 3)

    assert all(asked == {2} for asked in ends.asked)
    ends.known[2] = JobStatus.SUCCESS
    assert await longer == {2: JobStatus.SUCCESS}


@pytest.mark.parametrize("end", ["times out", "is cancelled"])
async def test_polling_stops_once_the_last_wait_has_ended(waiter: JobWaiter, ends: Ends, end: str):
    tasks = asyncio.all_tasks()
    waiting = asyncio.create_task(waiter.wait([1, 2], seconds=60 if end == "is cancelled" else 5 * SOON))
    if end == "is cancelled":
        await until(lambda: len(ends.asked) > 0)
        waiting.cancel()
    await asyncio.wait([waiting])

    await until(lambda: asyncio.all_tasks() == tasks)


async def test_a_wait_that_times_out_does_not_affect_another_one_for_the_same_job(waiter: JobWaiter, ends: Ends):
    longer = asyncio.create_task(waiter.wait([1], seconds=60))
    assert await waiter.wait([1], seconds=5 * SOON) == {}

    ends.known[1] = JobStatus.FAILED

    assert await longer == {1: JobStatus.FAILED}


async def test_a_wait_can_be_repeated_after_a_timeout(waiter: JobWaiter, ends: Ends):
    assert await waiter.wait([1], seconds=5 * SOON) == {}
    ends.known[1] = JobStatus.SUCCESS

    assert await waiter.wait([1], seconds=60) == {1: JobStatus.SUCCESS}
