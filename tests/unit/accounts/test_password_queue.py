"""Logins that wait for their password to be verified take turns by address, in bounded queues."""

import asyncio

import pytest

from tagferry import bounds
from tagferry.accounts.password_queue import PasswordQueue
from tagferry.errors import LoginThrottled

HOME, AWAY = "192.0.2.1", "198.51.100.7"


class Line:
    """Logins that hold their turn until they are let go, one after another.

    Attributes:
        served: from where, in the order in which their turns came.
    """

    def __init__(self) -> None:
        self.queue = PasswordQueue(at_once=1)
        self.served: list[str] = []
        self._go = asyncio.Semaphore(0)

    async def _log_in(self, address: str, *, is_suspect: bool) -> None:
        async with self.queue.slot(address, is_suspect=is_suspect):
            self.served.append(address)
            await self._go.acquire()

    async def comes(self, address: str, *, is_suspect: bool = False) -> "asyncio.Task[None]":
        task = asyncio.create_task(self._log_in(address, is_suspect=is_suspect))
        await asyncio.sleep(0)
        return task

    def let_go(self) -> None:
        for _ in range(1000):
            self._go.release()


async def test_addresses_are_served_in_turns_however_many_each_has_waiting():
    line = Line()
    logins = [await line.comes(HOME) for _ in range(4)] + [await line.comes(AWAY) for _ in range(2)]

    line.let_go()
    await asyncio.gather(*logins)

    assert line.served == [HOME, HOME, AWAY, HOME, AWAY, HOME]


async def test_addresses_from_which_nothing_failed_come_first():
    line = Line()
    logins = [await line.comes(f"203.0.113.{host}", is_suspect=True) for host in range(5)]
    logins.append(await line.comes(HOME))

    line.let_go()
    await asyncio.gather(*logins)

    assert line.served[:3] == ["203.0.113.0", HOME, "203.0.113.1"]


async def test_one_address_may_have_only_so_many_waiting_and_the_next_is_refused_at_once():
    line = Line()
    logins = [await line.comes(HOME) for _ in range(1 + bounds.PASSWORDS_WAITING_OF_ADDRESS)]

    with pytest.raises(LoginThrottled, match="try again in 2 s"):
        async with line.queue.slot(HOME, is_suspect=True):
            pass
    logins.append(await line.comes(AWAY))

    line.let_go()
    await asyncio.gather(*logins)


async def test_where_all_places_are_taken_the_address_with_the_most_gives_one_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "PASSWORDS_WAITING", 4)
    line = Line()
    logins = [await line.comes(HOME) for _ in range(5)]

    logins += [await line.comes(AWAY), await line.comes("203.0.113.1"), await line.comes("203.0.113.2")]
    with pytest.raises(LoginThrottled):
        async with line.queue.slot("203.0.113.3", is_suspect=False):
            pass
    line.let_go()
    ends = await asyncio.gather(*logins, return_exceptions=True)

    assert [type(end) for end in ends] == [type(None)] * 2 + [LoginThrottled] * 3 + [type(None)] * 3
    assert line.queue._waiting == 0


async def test_those_who_stop_waiting_leave_their_place_and_hold_no_turn():
    line = Line()
    holds, waits, next_one = await line.comes(HOME), await line.comes(AWAY), await line.comes(HOME)

    waits.cancel()
    await asyncio.wait([waits])
    assert line.queue._waiting == 1
    line._go.release()
    await holds
    # Its turn has come in the same moment in which it is cancelled.
    next_one.cancel()
    await asyncio.wait([next_one])

    line.let_go()
    await (await line.comes(AWAY))
    assert line.served[-1] == AWAY
    assert (line.queue._free, line.queue._waiting) == (1, 0)
