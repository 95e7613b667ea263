"""Bounded queues for verifying passwords, which is slow on purpose, served in turns between addresses."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tagferry import bounds
from tagferry.accounts.vault import HASHING_THREADS
from tagferry.concurrency import EXTERNAL_WAIT
from tagferry.errors import LoginThrottled
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED

_RETRY_SECONDS = 2.0

log = SparseEvents(__name__)

_Lane = OrderedDict[str, deque["asyncio.Future[None]"]]


class PasswordQueue:
    """Limits how many passwords are verified at once. Others wait in a queue for each address, served in turns.

    Addresses without recent failures come first, so that attackers only delay each other.
    """

    def __init__(self, at_once: int = HASHING_THREADS) -> None:
        self._free = at_once
        self._lanes: tuple[_Lane, _Lane] = (OrderedDict(), OrderedDict())
        self._waiting = 0

    @asynccontextmanager
    async def slot(self, address: str, *, is_suspect: bool) -> AsyncIterator[None]:
        """Wait for a turn and hold it; raises LoginThrottled at once if too many wait already."""
        await self._wait(address, self._lanes[is_suspect])
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, address: str, lane: _Lane) -> None:
        if self._free:
            self._free -= 1
            return
        mine = sum(len(one.get(address, ())) for one in self._lanes)
        if mine >= bounds.PASSWORDS_WAITING_OF_ADDRESS or not self._has_room(mine):
            raise self._refusal(address)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.setdefault(address, deque()).append(turn)
        self._waiting += 1
        try:
            with EXTERNAL_WAIT.get():
                await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()
            else:
                self._leave(address, lane, turn)
            raise

    def _has_room(self, mine: int) -> bool:
        """Return whether one more may wait. If the queues are full, the longest one loses its last entry."""
        if self._waiting < bounds.PASSWORDS_WAITING:
            return True
        for lane in reversed(self._lanes):
            address = max(lane, key=lambda one: len(lane[one]), default=None)
            if address is not None and len(lane[address]) > mine + 1:
                turn = lane[address][-1]
                self._leave(address, lane, turn)
                turn.set_exception(self._refusal(address))
                return True
        return False

    def _pass_on(self) -> None:
        for lane in self._lanes:
            while lane:
                address, queue = lane.popitem(last=False)
                turn = queue.popleft()
                self._waiting -= 1
                if queue:
                    lane[address] = queue
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1

    def _leave(self, address: str, lane: _Lane, turn: "asyncio.Future[None]") -> None:
        queue = lane.get(address)
        if queue is not None and turn in queue:
            queue.remove(turn)
            self._waiting -= 1
            if not queue:
                del lane[address]

    def _refusal(self, address: str) -> LoginThrottled:
        BOUND_REACHED.labels(bound="passwords_waiting").inc()
        log.warning("refused a login: too many are waiting", address=address)
        return LoginThrottled(
            f"too many logins by password are waiting to be verified; try again in {_RETRY_SECONDS:.0f} s",
            retry_after=_RETRY_SECONDS,
        )
