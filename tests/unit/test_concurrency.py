import asyncio

import pytest

from tagferry.concurrency import BackgroundWork, LatestResult, SingleFlight, both, bounded_gather, gather


class Work:
    """Work that counts its runs, and ends when `may_end` is set."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.begun = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self._error = error

    async def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self.may_stop.wait()
            raise
        if self._error is not None:
            raise self._error
        return mine


def join(single_flight: SingleFlight[str, int], work: Work, number: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(single_flight.run("key", work)) for _ in range(number)]


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_concurrent_callers_of_a_key_share_one_run_and_its_result():
    single_flight, work = SingleFlight[str, int](), Work()
    callers = join(single_flight, work, 3)
    await settle()

    assert "key" in single_flight
    work.may_end.set()

    assert await asyncio.gather(*callers) == [1, 1, 1]
    assert "key" not in single_flight
    assert not others()


async def test_different_keys_do_not_share_work():
    single_flight, work = SingleFlight[str, int](), Work()
    work.may_end.set()

    assert sorted(await asyncio.gather(single_flight.run("one", work), single_flight.run("two", work))) == [1, 2]


async def test_a_call_after_the_end_runs_the_work_again():
    single_flight, work = SingleFlight[str, int](), Work()
    work.may_end.set()

    assert await single_flight.run("key", work) == 1
    assert await single_flight.run("key", work) == 2


async def test_an_error_is_raised_in_every_waiting_caller_and_not_kept():
    single_flight, work = SingleFlight[str, int](), Work(error=OSError("disk full"))
    callers = join(single_flight, work, 3)
    await settle()
    work.may_end.set()

    results = await asyncio.gather(*callers, return_exceptions=True)

    assert [str(result) for result in results] == ["disk full"] * 3
    assert "key" not in single_flight


async def test_work_continues_while_one_caller_is_left():
    single_flight, work = SingleFlight[str, int](), Work()
    first, second, last = join(single_flight, work, 3)
    await settle()

    first.cancel()
    second.cancel()
    await settle()
    work.may_end.set()

    assert await last == 1
    assert first.cancelled()
    assert second.cancelled()
    assert work.cancelled == 0


async def test_work_is_cancelled_with_its_last_caller():
    single_flight, work = SingleFlight[str, int](), Work()
    callers = join(single_flight, work, 2)
    await settle()

    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)

    assert work.cancelled == 1
    assert "key" not in single_flight
    assert not others()


async def test_cancelling_the_last_caller_waits_until_the_work_has_stopped():
    single_flight, work = SingleFlight[str, int](), Work()
    work.may_stop.clear()
    (caller,) = join(single_flight, work, 1)
    await settle()

    caller.cancel()
    await settle()
    assert not caller.done()

    work.may_stop.set()
    await asyncio.wait([caller])
    assert caller.cancelled()


async def test_work_that_is_being_cancelled_is_not_joined():
    single_flight, work = SingleFlight[str, int](), Work()
    work.may_stop.clear()
    (abandoned,) = join(single_flight, work, 1)
    await settle()
    abandoned.cancel()
    await settle()

    (fresh,) = join(single_flight, work, 1)
    await settle()
    assert work.begun == 2

    work.may_stop.set()
    await asyncio.wait([abandoned])
    assert "key" in single_flight, "the end of the old call must not remove the new one"
    work.may_end.set()
    assert await fresh == 2


async def test_gather_returns_when_all_work_has_ended():
    done = []

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    await gather(*(one(number) for number in range(3)))
    await gather()

    assert sorted(done) == [0, 1, 2]


async def test_gather_raises_the_first_error_as_is_and_cancels_the_rest():
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


async def test_cancelling_gather_cancels_all_work_and_leaves_no_task():
    stuck = Work()
    caller = asyncio.create_task(gather(stuck(), stuck()))
    await settle()

    caller.cancel()
    await asyncio.wait([caller])

    assert caller.cancelled()
    assert stuck.cancelled == 2
    assert not others()


async def test_gather_does_not_treat_work_that_cancels_itself_as_done():
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await gather(give_up())


async def test_both_return_their_results_and_the_first_error_cancels_the_other():
    turn = asyncio.Event()

    async def waits() -> str:
        await turn.wait()
        return "waited"

    async def lets_it() -> int:
        turn.set()
        return 7

    assert await both(waits(), lets_it()) == ("waited", 7)

    async def fail() -> None:
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        await both(asyncio.sleep(60), fail())


async def test_bounded_gather_runs_at_most_its_limit_and_keeps_the_order_of_results():
    running = most = 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - number % 5))
        running -= 1
        return number * 2

    assert await bounded_gather(range(20), work, limit=3) == [number * 2 for number in range(20)]
    assert most == 3


async def test_bounded_gather_awaits_a_single_item_without_a_task():
    async def work(_: str) -> asyncio.Task[object] | None:
        return asyncio.current_task()

    assert await bounded_gather(["one"], work, limit=3) == [asyncio.current_task()]


async def test_bounded_gather_cancels_all_other_items_on_the_first_error():
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("one")
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="one"):
        await bounded_gather(range(10), work, limit=2)

    # The slot of the failed item may have passed to the next one before all are cancelled.
    assert begun in ([0, 1], [0, 1, 2])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_gather_raises_a_finishing_error_after_the_rest_has_ended():
    done: list[str] = []

    async def fail() -> None:
        raise LookupError("first")

    async def slow() -> None:
        await asyncio.sleep(0.01)
        done.append("slow")

    with pytest.raises(LookupError, match="first"):
        await gather(fail(), slow(), finishing=(LookupError,))
    assert done == ["slow"]


async def test_gather_cancels_the_rest_on_another_error_after_a_finishing_error():
    async def fail(error: Exception) -> None:
        raise error

    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="second"):
        await gather(fail(LookupError("first")), fail(ValueError("second")), forever(), finishing=(LookupError,))


async def test_requests_during_a_run_share_one_further_run():
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


async def test_a_failed_run_fails_only_its_own_callers():
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


async def test_background_work_ends_before_it_is_closed():
    work, background = Work(), BackgroundWork()
    background.start(work())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, work.may_end.set)

    await background.close(seconds=30)

    assert (work.begun, work.cancelled) == (1, 0)
    await background.close(seconds=30)


async def test_late_background_work_is_cancelled_and_has_ended_after_that():
    work, background = Work(), BackgroundWork()
    background.start(work())

    await background.close(seconds=0.01)

    assert (work.begun, work.cancelled) == (1, 1)
