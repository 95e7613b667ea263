import asyncio

import pytest

from tagferry.concurrency import Flights, LatestResult, each, gather


class Work:
    """Counts how often it is begun, and ends when it is told to."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.begun = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self.may_go_down = asyncio.Event()
        self.may_go_down.set()
        self._error = error

    async def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self.may_go_down.wait()
            raise
        if self._error is not None:
            raise self._error
        return mine


def join(flights: Flights[str, int], work: Work, number: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(flights.share("key", work)) for _ in range(number)]


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_work_that_several_want_is_done_once_and_all_get_its_result():
    flights, work = Flights[str, int](), Work()
    callers = join(flights, work, 3)
    await settle()

    assert "key" in flights
    work.may_end.set()

    assert await asyncio.gather(*callers) == [1, 1, 1]
    assert "key" not in flights
    assert not others()


async def test_work_under_different_keys_is_not_shared():
    flights, work = Flights[str, int](), Work()
    work.may_end.set()

    assert sorted(await asyncio.gather(flights.share("one", work), flights.share("two", work))) == [1, 2]


async def test_work_that_has_ended_is_done_anew_for_whoever_asks_next():
    flights, work = Flights[str, int](), Work()
    work.may_end.set()

    assert await flights.share("key", work) == 1
    assert await flights.share("key", work) == 2


async def test_an_error_reaches_everybody_who_waits_and_nobody_who_asks_later():
    flights, work = Flights[str, int](), Work(error=OSError("disk full"))
    callers = join(flights, work, 3)
    await settle()
    work.may_end.set()

    results = await asyncio.gather(*callers, return_exceptions=True)

    assert [str(result) for result in results] == ["disk full"] * 3
    assert "key" not in flights


async def test_work_goes_on_while_one_of_those_who_wait_for_it_is_left():
    flights, work = Flights[str, int](), Work()
    first, second, last = join(flights, work, 3)
    await settle()

    first.cancel()
    second.cancel()
    await settle()
    work.may_end.set()

    assert await last == 1
    assert first.cancelled()
    assert second.cancelled()
    assert work.cancelled == 0


async def test_work_is_cancelled_with_the_last_who_waits_for_it():
    flights, work = Flights[str, int](), Work()
    callers = join(flights, work, 2)
    await settle()

    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)

    assert work.cancelled == 1
    assert "key" not in flights
    assert not others()


async def test_whoever_cancels_the_last_waits_until_the_work_has_gone_down():
    flights, work = Flights[str, int](), Work()
    work.may_go_down.clear()
    (caller,) = join(flights, work, 1)
    await settle()

    caller.cancel()
    await settle()
    assert not caller.done()

    work.may_go_down.set()
    await asyncio.wait([caller])
    assert caller.cancelled()


async def test_work_that_is_going_down_is_not_joined_but_started_anew():
    flights, work = Flights[str, int](), Work()
    work.may_go_down.clear()
    (abandoned,) = join(flights, work, 1)
    await settle()
    abandoned.cancel()
    await settle()

    (fresh,) = join(flights, work, 1)
    await settle()
    assert work.begun == 2

    work.may_go_down.set()
    await asyncio.wait([abandoned])
    assert "key" in flights, "the end of the old work must not take the new one from the table"
    work.may_end.set()
    assert await fresh == 2


async def test_gathered_work_ends_when_all_of_it_has_ended():
    done = []

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    await gather(*(one(number) for number in range(3)))
    await gather()

    assert sorted(done) == [0, 1, 2]


async def test_the_first_error_of_gathered_work_is_raised_as_it_is_and_the_rest_is_cancelled():
    stuck = Work()
    error = OSError("disk full")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(OSError, match="disk full") as raised:
        await gather(stuck(), fail(), stuck())

    assert raised.value is error
    assert stuck.cancelled == 2
    assert not others()


async def test_gathered_work_is_cancelled_together_and_leaves_no_task():
    stuck = Work()
    caller = asyncio.create_task(gather(stuck(), stuck()))
    await settle()

    caller.cancel()
    await asyncio.wait([caller])

    assert caller.cancelled()
    assert stuck.cancelled == 2
    assert not others()


async def test_gathered_work_that_cancels_itself_is_not_taken_for_done():
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await gather(give_up())


async def test_each_item_is_worked_on_a_bounded_number_at_once_and_results_keep_the_order():
    running = most = 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - number % 5))
        running -= 1
        return number * 2

    assert await each(range(20), work, at_once=3) == [number * 2 for number in range(20)]
    assert most == 3


async def test_the_first_error_ends_the_work_on_all_other_items():
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("one")
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="one"):
        await each(range(10), work, at_once=2)

    # The place of the one that failed may have gone to the next before all are told to end.
    assert begun in ([0, 1], [0, 1, 2])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_after_a_finishing_error_the_others_end_before_it_is_raised():
    done: list[str] = []

    async def fail() -> None:
        raise LookupError("first")

    async def slow() -> None:
        await asyncio.sleep(0.01)
        done.append("slow")

    with pytest.raises(LookupError, match="first"):
        await gather(fail(), slow(), finishing=(LookupError,))
    assert done == ["slow"]


async def test_after_a_finishing_error_another_one_still_cancels_the_rest():
    async def fail(error: Exception) -> None:
        raise error

    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="second"):
        await gather(fail(LookupError("first")), fail(ValueError("second")), forever(), finishing=(LookupError,))


async def test_those_that_ask_while_work_runs_share_one_more_run():
    started, may_end = asyncio.Queue[int](), asyncio.Event()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        started.put_nowait(runs)
        await may_end.wait()
        return runs

    latest = LatestResult(work)
    first = asyncio.create_task(latest.result())
    await started.get()
    later = [asyncio.create_task(latest.result()) for _ in range(10)]
    later[0].cancel()
    await asyncio.sleep(0)
    may_end.set()

    assert await first == 1
    assert await asyncio.gather(*later[1:]) == [2] * 9
    assert await latest.result() == 3


async def test_a_run_that_failed_fails_those_that_waited_for_it_only():
    async def work() -> int:
        if failing:
            raise ValueError("failed")
        return 1

    failing = True
    latest = LatestResult(work)
    with pytest.raises(ValueError, match="failed"):
        await latest.result()
    failing = False
    assert await latest.result() == 1
