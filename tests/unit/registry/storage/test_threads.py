"""Short work shares a thread, and each caller gets its own result or error."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator

import pytest

from tagferry.registry.storage.gathering import GatheredWork
from tagferry.registry.storage.threads import DiskFailed, DiskThreads

faults: list[OSError] = []


@pytest.fixture
async def threads() -> AsyncIterator[DiskThreads]:
    faults.clear()
    opened = DiskThreads(4, on_fault=faults.append)
    yield opened
    opened.close()


def failing() -> int:
    raise OSError(errno.EIO, "Input/output error")


def missing() -> int:
    raise FileNotFoundError


async def test_short_work_of_the_same_time_runs_in_one_thread(threads: DiskThreads):
    first = await asyncio.gather(*(threads.run_short(threading.get_ident) for _ in range(20)))

    assert len(set(first)) == 1
    assert threading.get_ident() not in first


async def test_an_error_of_short_work_is_its_own_callers(threads: DiskThreads):
    found = await asyncio.gather(
        *(threads.run_short(work) for work in (failing, threading.active_count, missing)), return_exceptions=True
    )

    assert [type(one) for one in found] == [DiskFailed, int, FileNotFoundError]
    assert [one.errno for one in faults] == [errno.EIO]


async def test_a_caller_that_is_cancelled_does_not_take_the_others_results(threads: DiskThreads):
    begun, going_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        going_on.wait(60)
        return "slow"

    cancelled = asyncio.create_task(threads.run_short(slow))
    other = asyncio.create_task(threads.run_short(lambda: "other"))
    await threads.run(begun.wait, 60)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    going_on.set()

    assert await other == "other"


async def test_work_of_a_later_time_does_not_wait_for_earlier_work(threads: DiskThreads):
    going_on = threading.Event()
    earlier = asyncio.create_task(threads.run_short(going_on.wait, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert await threads.run_short(lambda: "later") == "later"
    going_on.set()
    assert await earlier


async def test_short_work_is_refused_when_the_threads_have_ended(threads: DiskThreads):
    threads.close()

    outcomes = await asyncio.wait_for(
        asyncio.gather(*(threads.run_short(int) for _ in range(3)), return_exceptions=True), 10
    )

    assert [type(one) for one in outcomes] == [RuntimeError] * 3


async def test_gathered_work_is_refused_when_the_threads_have_ended(threads: DiskThreads):
    work: GatheredWork[str, int] = GatheredWork(threads, lambda _, items: [None] * len(items))
    threads.close()

    # More than one run takes.
    outcomes = await asyncio.wait_for(
        asyncio.gather(*(work.run("key", number) for number in range(50)), return_exceptions=True), 10
    )

    assert [type(one) for one in outcomes] == [RuntimeError] * 50
