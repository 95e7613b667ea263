"""Which workers are there: told by what the system frees when a process or its machine is gone, never by a clock.

On PostgreSQL a worker holds an advisory lock on a connection of its own. The server frees it when the process ends, and
after eleven seconds of silence when its machine or the network is gone. A process that stands still keeps it.

Whoever lost its lock must not go on, and whoever sees it free must not take over before the other has noticed. So a
worker asks every two seconds, gives up what it does once it has had no answer for six, and the others wait for ten
after they first saw the lock free. Each measures its own time only.

With SQLite there is one process at a time, which a lock on a file beside the database sees to.
"""

import asyncio
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.coordination.pubsub import CHANNEL, on_channel
from tagferry.db.engine import Database
from tagferry.db.postgres import PostgresError, connect
from tagferry.db.tables import WorkerRow
from tagferry.errors import Unavailable

if TYPE_CHECKING:
    from psycopg import AsyncConnection

RENEW_SECONDS = 2.0
LEASE_SECONDS = 6.0
"""So long after the database last answered, a worker may believe that it still holds its lock."""
GRACE_SECONDS = 10.0
"""So long after a worker's lock was first seen free, nobody takes its jobs."""

_WORKER_LOCKS = 0x7A66
"""What tells our locks of workers from other advisory locks in the same database."""

_LEADER = "leader"
"""The name of the lock that the leading worker holds."""

log = structlog.get_logger(__name__)


class Membership(Protocol):
    """This process as a worker among workers."""

    @property
    def lost(self) -> asyncio.Event:
        """Set once this worker can no longer be sure that it counts as present; `enter` makes a new one."""
        ...

    async def join(self) -> int:
        """Become a worker, with a new id; raises Unavailable where that cannot be."""
        ...

    async def holds_lease(self) -> bool:
        """Whether nobody can have taken this worker for gone; may ask the database. If not, `lost` is set."""
        ...

    async def lost_workers(self) -> list[int]:
        """The workers that are gone for good, and have noticed it themselves if they still can."""
        ...

    async def fence(self, session: AsyncSession, worker_id: int) -> bool:
        """Within a transaction: whether this worker is gone, and cannot come back before the transaction ends."""
        ...

    async def try_lock(self, key: str) -> bool:
        """Take a lock by name, that goes with this worker if it goes; False where somebody has it or may have it."""
        ...

    async def unlock(self, key: str, *, notify: tuple[str, str] | None = None) -> None:
        """Give a lock back, and tell everybody: a topic and a message as of `MessageBus`, which may be lost."""
        ...

    async def is_leader(self) -> bool:
        """Whether this worker is the one that does what only one should do; another one does it once it is gone."""
        ...

    async def leave(self) -> None:
        """Be a worker no longer."""
        ...


class LocalMembership:
    """The only worker on an SQLite database; a second process is refused."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lost = asyncio.Event()
        self._file: int | None = None
        self._id: int | None = None
        self._locks: set[str] = set()

    @property
    def lost(self) -> asyncio.Event:
        """Never set: the lock on a file cannot be lost."""
        return self._lost

    async def join(self) -> int:
        """See `Membership.join`."""
        name = self._database.url.database
        if name and name != ":memory:" and self._file is None:
            self._file = _lock_file(Path(f"{name}.lock"))
        async with self._database.write() as session:
            self._id = await _add_worker(session)
        return self._id

    async def holds_lease(self) -> bool:
        """See `Membership.holds_lease`."""
        return True

    async def lost_workers(self) -> list[int]:
        """See `Membership.lost_workers`; whoever else is on record, since only one can be there."""
        async with self._database.read() as session:
            return list(await session.scalars(select(WorkerRow.id).where(WorkerRow.id != self._id)))

    async def fence(self, session: AsyncSession, worker_id: int) -> bool:
        """See `Membership.fence`."""
        return True

    async def try_lock(self, key: str) -> bool:
        """See `Membership.try_lock`."""
        if key in self._locks:
            return False
        self._locks.add(key)
        return True

    async def unlock(self, key: str, *, notify: tuple[str, str] | None = None) -> None:
        """See `Membership.unlock`; there is nobody else to tell."""
        self._locks.discard(key)

    async def is_leader(self) -> bool:
        """See `Membership.is_leader`."""
        return self._id is not None

    async def leave(self) -> None:
        """See `Membership.leave`."""
        try:
            if self._id is not None:
                async with self._database.write() as session:
                    await session.execute(delete(WorkerRow).where(WorkerRow.id == self._id))
        finally:
            self._id = None
            self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class PostgresMembership:
    """One of the workers on a PostgreSQL database.

    Args:
        database: the database that they share.
        clock: seconds, monotonic.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lost = asyncio.Event()
        self._connection: AsyncConnection | None = None
        self._asking: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._answered_at = float("-inf")
        self._seen_free: dict[int, float] = {}
        self._is_leader = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def lost(self) -> asyncio.Event:
        """See `Membership.lost`."""
        return self._lost

    async def join(self) -> int:
        """See `Membership.join`."""
        await self._disconnect()
        self._lost = asyncio.Event()
        try:
            self._connection = await connect(self._database.url)
            async with self._database.write() as session:
                worker_id = await _add_worker(session)
            await self._ask("SELECT pg_advisory_lock(%s, %s)", _WORKER_LOCKS, worker_id)
        except (PostgresError, TimeoutError) as error:
            raise Unavailable(f"the database cannot be used by this worker: {error}") from None
        self._asking = asyncio.create_task(self._keep_asking(self._lost))
        return worker_id

    async def holds_lease(self) -> bool:
        """See `Membership.holds_lease`."""
        if self._lost.is_set():
            return False
        if self._clock() - self._answered_at < LEASE_SECONDS:
            return True
        # This process stood still for a while; what it holds after that is for the database to say.
        lost = self._lost
        try:
            await self._ask("SELECT 1")
        except (PostgresError, TimeoutError):
            lost.set()
        return not lost.is_set()

    async def lost_workers(self) -> list[int]:
        """See `Membership.lost_workers`."""
        async with self._database.read() as session:
            free = set(await session.scalars(text(_FREE), {"locks": _WORKER_LOCKS}))
        now = self._clock()
        self._seen_free = {worker_id: self._seen_free.get(worker_id, now) for worker_id in free}
        return [worker_id for worker_id, since in self._seen_free.items() if now - since >= GRACE_SECONDS]

    async def fence(self, session: AsyncSession, worker_id: int) -> bool:
        """See `Membership.fence`."""
        got = await session.scalar(
            text("SELECT pg_try_advisory_xact_lock(:locks, :worker)"), {"locks": _WORKER_LOCKS, "worker": worker_id}
        )
        return bool(got)

    async def try_lock(self, key: str) -> bool:
        """See `Membership.try_lock`."""
        try:
            return bool(await self._ask("SELECT pg_try_advisory_lock(%s)", _number(key)))
        except (PostgresError, TimeoutError):
            return False

    async def unlock(self, key: str, *, notify: tuple[str, str] | None = None) -> None:
        """See `Membership.unlock`."""
        with suppress(PostgresError, TimeoutError):
            if notify is None:
                await self._ask("SELECT pg_advisory_unlock(%s)", _number(key))
            else:
                # A message that may be lost is not worth a wait for the disk; during it nobody else could send one.
                await self._ask(_UNLOCK_AND_NOTIFY, _number(key), CHANNEL, on_channel(*notify))

    async def is_leader(self) -> bool:
        """See `Membership.is_leader`."""
        self._is_leader = not self._lost.is_set() and (self._is_leader or await self.try_lock(_LEADER))
        return self._is_leader

    async def leave(self) -> None:
        """See `Membership.leave`."""
        await self._disconnect()
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _ask(self, question: str, *values: int | str) -> object:
        """Ask on the connection that holds the locks; only one who still has it gets an answer."""
        connection = self._connection
        if connection is None:
            raise PostgresError("this worker is not connected")
        async with self._one_at_a_time:
            asked_at = self._clock()
            answering = asyncio.ensure_future(_answer(connection, question, values))
            # Whoever asked may be cancelled; the answer is then heard by nobody.
            answering.add_done_callback(lambda heard: heard.cancelled() or heard.exception())
            done, _ = await asyncio.wait([answering], timeout=LEASE_SECONDS - RENEW_SECONDS)
            if not done:
                self._give_up(connection, answering)
                raise TimeoutError
            answer = answering.result()
            self._answered_at = asked_at
        return answer

    def _give_up(self, connection: "AsyncConnection", answering: asyncio.Future[object]) -> None:
        """Lose a connection that does not answer; the driver takes ten seconds to do so, which nobody may wait for."""

        async def close() -> None:
            try:
                answering.cancel()
                await asyncio.wait([answering])
            finally:
                # The second time the driver obeys at once.
                answering.cancel()
                await asyncio.wait([answering], timeout=1)
                await connection.close()

        self._connection = None
        self._lost.set()
        closing = asyncio.create_task(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _keep_asking(self, lost: asyncio.Event) -> None:
        try:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                await self._ask("SELECT 1")
        except (PostgresError, TimeoutError) as error:
            log.warning("this worker lost its database", reason=str(error) or "no answer")
        finally:
            # Also after an error that nobody expected: without this task, the lease cannot be renewed.
            lost.set()

    async def _disconnect(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
            self._asking = None
        self._is_leader = False
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(PostgresError, TimeoutError):
                async with asyncio.timeout(1):
                    await connection.close()


def membership_of(database: Database) -> Membership:
    """How a worker is present on this kind of database."""
    return PostgresMembership(database) if database.is_shared else LocalMembership(database)


_UNLOCK_AND_NOTIFY = "SELECT pg_advisory_unlock(%s), pg_notify(%s, %s), set_config('synchronous_commit', 'off', true)"
_FREE = """
    SELECT workers.id FROM workers WHERE NOT EXISTS (
        SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE locktype = 'advisory' AND datname = current_database()
          AND classid = :locks AND objid = workers.id AND objsubid = 2
    )
"""


async def _add_worker(session: AsyncSession) -> int:
    added = await session.execute(
        insert(WorkerRow).returning(WorkerRow.id),
        {"name": f"{socket.gethostname()}:{os.getpid()}", "started_at": datetime.now(UTC)},
    )
    worker_id: int = added.scalar_one()
    return worker_id


async def _answer(connection: "AsyncConnection", question: str, values: tuple[int | str, ...]) -> object:
    cursor = await connection.execute(question, values)
    row = await cursor.fetchone()
    return row[0] if row else None


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], signed=True)


def _lock_file(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Unavailable(
            f"another tagferry works on {path.with_suffix('')} already; several need PostgreSQL (database_url)"
        ) from None
    return descriptor
