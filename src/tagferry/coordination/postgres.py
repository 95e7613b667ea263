"""Coordination through PostgreSQL's advisory locks, on a connection of the worker's own."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.coordination.pubsub import CHANNEL
from tagferry.coordination.worker_rows import add_worker
from tagferry.db.engine import Database
from tagferry.db.postgres import PostgresError, connect
from tagferry.errors import Unavailable

if TYPE_CHECKING:
    from psycopg import AsyncConnection

RENEW_SECONDS = 2.0
"""Seconds between two checks of the connection that holds the locks."""
LEASE_SECONDS = 6.0
"""Seconds after the last response of the database during which a worker still holds its lease."""
GRACE_SECONDS = 10.0
"""Seconds after a worker's lock was first seen free before its jobs are taken over."""

_WORKER_LOCKS = 0x7A66
"""The class of the workers' locks among all advisory locks of the database."""

_LEADER = "leader"
"""The name of the leader's lock."""

log = structlog.get_logger(__name__)


class PostgresCoordination:
    """One of the workers of a PostgreSQL database.

    Args:
        database: the shared database.
        clock: seconds, monotonic.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lost = asyncio.Event()
        self._connection: AsyncConnection | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._query_lock = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._seen_free: dict[int, float] = {}
        self._is_leader = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def lost(self) -> asyncio.Event:
        """Implement `Membership.lost`."""
        return self._lost

    async def join(self) -> int:
        """Implement `Membership.join`."""
        await self._disconnect()
        self._lost = asyncio.Event()
        try:
            self._connection = await connect(self._database.url)
            async with self._database.write() as session:
                worker_id = await add_worker(session)
            await self._query("SELECT pg_advisory_lock(%s, %s)", _WORKER_LOCKS, worker_id)
        except (PostgresError, TimeoutError) as error:
            raise Unavailable(f"this worker cannot use the database: {error}") from None
        self._renewing = asyncio.create_task(self._renew(self._lost))
        return worker_id

    async def holds_lease(self) -> bool:
        """Implement `Membership.holds_lease`."""
        if self._lost.is_set():
            return False
        if self._clock() - self._renewed_at < LEASE_SECONDS:
            return True
        # This process was suspended or busy for a while; only the database knows whether it still holds the lock.
        lost = self._lost
        try:
            await self._query("SELECT 1")
        except (PostgresError, TimeoutError):
            lost.set()
        return not lost.is_set()

    async def lost_workers(self) -> list[int]:
        """Implement `Membership.lost_workers`."""
        async with self._database.read() as session:
            free = {worker_id for worker_id, _, is_locked in await session.execute(_WORKERS) if not is_locked}
        now = self._clock()
        self._seen_free = {worker_id: self._seen_free.get(worker_id, now) for worker_id in free}
        return [worker_id for worker_id, since in self._seen_free.items() if now - since >= GRACE_SECONDS]

    async def fence(self, session: AsyncSession, worker_id: int) -> bool:
        """Implement `Membership.fence`."""
        got = await session.scalar(
            text("SELECT pg_try_advisory_xact_lock(:locks, :worker)"), {"locks": _WORKER_LOCKS, "worker": worker_id}
        )
        return bool(got)

    async def try_lock(self, name: str) -> bool:
        """Implement `NamedLocks.try_lock`."""
        try:
            return bool(await self._query("SELECT pg_try_advisory_lock(%s)", _number(name)))
        except (PostgresError, TimeoutError):
            return False

    async def unlock(self, name: str, *, notify: str | None = None) -> None:
        """Implement `NamedLocks.unlock`."""
        with suppress(PostgresError, TimeoutError):
            if notify is None:
                await self._query("SELECT pg_advisory_unlock(%s)", _number(name))
            else:
                # Do not wait for the disk: the message may be lost, and NOTIFY commits are serialized.
                await self._query(_UNLOCK_AND_NOTIFY, _number(name), CHANNEL, notify)

    async def is_leader(self) -> bool:
        """Implement `LeaderElection.is_leader`."""
        self._is_leader = not self._lost.is_set() and (self._is_leader or await self.try_lock(_LEADER))
        return self._is_leader

    async def leave(self) -> None:
        """Implement `Membership.leave`."""
        await self._disconnect()
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _query(self, statement: str, *values: int | str) -> object:
        """Query on the connection that holds the locks; a result proves that it still holds them."""
        connection = self._connection
        if connection is None:
            raise PostgresError("this worker is not connected")
        async with self._query_lock:
            sent_at = self._clock()
            fetching = asyncio.ensure_future(_fetch(connection, statement, values))
            # The caller may be cancelled; retrieve the exception, so that it is not reported as lost.
            fetching.add_done_callback(lambda done: done.cancelled() or done.exception())
            done, _ = await asyncio.wait([fetching], timeout=LEASE_SECONDS - RENEW_SECONDS)
            if not done:
                self._abandon(connection, fetching)
                raise TimeoutError
            value = fetching.result()
            self._renewed_at = sent_at
        return value

    def _abandon(self, connection: "AsyncConnection", fetching: asyncio.Future[object]) -> None:
        """Close an unresponsive connection in the background, since the driver takes ten seconds to do so."""

        async def close() -> None:
            try:
                fetching.cancel()
                await asyncio.wait([fetching])
            finally:
                # The driver stops immediately at the second cancellation.
                fetching.cancel()
                await asyncio.wait([fetching], timeout=1)
                await connection.close()

        self._connection = None
        self._lost.set()
        closing = asyncio.create_task(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _renew(self, lost: asyncio.Event) -> None:
        try:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                await self._query("SELECT 1")
        except (PostgresError, TimeoutError) as error:
            log.warning("worker lost its database connection", reason=str(error) or "no response")
        finally:
            # After an unexpected error too: without this task, the lease cannot be renewed.
            lost.set()

    async def _disconnect(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None
        self._is_leader = False
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(PostgresError, TimeoutError):
                async with asyncio.timeout(1):
                    await connection.close()


_UNLOCK_AND_NOTIFY = "SELECT pg_advisory_unlock(%s), pg_notify(%s, %s), set_config('synchronous_commit', 'off', true)"
_WORKERS = text("""
    SELECT workers.id, workers.name, EXISTS (
        SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE locktype = 'advisory' AND datname = current_database()
          AND classid = :locks AND objid = workers.id AND objsubid = 2
    ) FROM workers
""").bindparams(locks=_WORKER_LOCKS)
"""The workers, and whether they hold their locks."""


async def living_on_postgres(database: Database) -> set[str]:
    """Return the names of the workers that hold their locks."""
    async with database.read() as session:
        return {name for _, name, is_locked in await session.execute(_WORKERS) if is_locked}


async def _fetch(connection: "AsyncConnection", statement: str, values: tuple[int | str, ...]) -> object:
    cursor = await connection.execute(statement, values)
    row = await cursor.fetchone()
    return row[0] if row else None


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
