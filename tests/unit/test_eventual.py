import asyncio

import pytest

from tagferry.errors import NotFound, Overloaded, Throttled
from tagferry.eventual import EventualResults, Progress

MOMENT = 0.01
"""Seconds that pass in vain."""
LONG = 30.0
"""Seconds that are never used up."""


class Work:
    """Work that counts its runs, and ends when `may_end` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.has_begun = asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, progress: Progress) -> str:
        self.begun += 1
        self.has_begun.set()
        number = self.begun
        progress.done, progress.total = 1, 3
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        return f"result {number}"


@pytest.fixture
async def results():
    async with EventualResults(at_once=2) as opened:
        yield opened


async def test_work_that_ends_in_time_is_returned_at_once(results: EventualResults):
    work = Work()
    work.may_end.set()

    assert await results.get("key", work, owner="one", seconds=LONG) == "result 1"


async def test_work_that_takes_longer_continues_and_the_next_call_gets_its_result(results: EventualResults):
    work = Work()

    assert await results.get("key", work, owner="one", seconds=MOMENT) == Progress(1, 3)
    work.may_end.set()

    assert await results.get("key", work, owner="one", seconds=LONG) == "result 1"
    assert work.begun == 1


async def test_a_result_is_returned_once_so_that_it_is_never_old(results: EventualResults):
    work = Work()
    work.may_end.set()

    await results.get("key", work, owner="one", seconds=LONG)

    assert await results.get("key", work, owner="one", seconds=LONG) == "result 2"


async def test_an_error_is_raised_by_the_call_that_would_get_the_result(results: EventualResults):
    work = Work()
    work.error = NotFound("repository", "team/app")
    await results.get("key", work, owner="one", seconds=MOMENT)
    work.may_end.set()

    with pytest.raises(NotFound):
        await results.get("key", work, owner="one", seconds=LONG)


async def test_an_owner_has_a_limited_number_of_works_in_progress(results: EventualResults):
    work = Work()
    for key in ("first", "second"):
        await results.get(key, work, owner="one", seconds=MOMENT)

    with pytest.raises(Throttled):
        await results.get("third", work, owner="one", seconds=MOMENT)
    assert await results.get("first", work, owner="one", seconds=MOMENT) == Progress(1, 3)
    assert await results.get("third", work, owner="two", seconds=MOMENT) == Progress(1, 3)


async def test_work_that_nobody_asks_for_any_more_is_cancelled():
    results, work = EventualResults(unclaimed_seconds=MOMENT, at_once=1), Work()

    await results.get("key", work, owner="one", seconds=0)
    await work.was_cancelled.wait()

    assert isinstance(await results.get("other", work, owner="one", seconds=0), Progress)
    await results.close()


async def test_a_caller_that_leaves_does_not_end_the_work(results: EventualResults):
    work = Work()
    leaving = asyncio.create_task(results.get("key", work, owner="one", seconds=LONG))
    await work.has_begun.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    work.may_end.set()

    assert await results.get("key", work, owner="one", seconds=LONG) == "result 1"


async def test_all_work_is_cancelled_at_the_end(results: EventualResults):
    work = Work()
    await results.get("key", work, owner="one", seconds=MOMENT)

    await results.close()

    assert work.was_cancelled.is_set()


async def test_a_caller_that_waits_at_the_end_is_told_so(results: EventualResults):
    work = Work()
    waiting = asyncio.create_task(results.get("key", work, owner="one", seconds=LONG))
    await work.has_begun.wait()

    await results.close()

    with pytest.raises(Overloaded):
        await waiting
