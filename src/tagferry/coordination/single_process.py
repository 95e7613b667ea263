"""Coordination with SQLite: one process at a time, which a lock on a file beside the database ensures."""

import asyncio
import fcntl
import os
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.coordination.worker_rows import add_worker
from tagferry.db.engine import Database
from tagferry.db.tables import WorkerRow
from tagferry.errors import Unavailable
from tagferry.file_faults import file_fault
from tagferry.regular_file import is_locked, open_regular


class SingleProcess:
    """The only worker of an SQLite database; a second process is refused."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = _lock_path(database.url.database or "")
        self._lost = asyncio.Event()
        self._file: int | None = None
        self._id: int | None = None
        self._locks: set[str] = set()

    @property
    def lost(self) -> asyncio.Event:
        """Set once the locked file was deleted, so that another process could lock one with its name."""
        return self._lost

    async def join(self) -> int:
        """Implement `Membership.join`."""
        if not self._has_lock():
            self._unlock_file()
            self._file = _lock_file(self._path)
        self._lost = asyncio.Event()
        async with self._database.write() as session:
            self._id = await add_worker(session)
        return self._id

    async def holds_lease(self) -> bool:
        """Implement `Membership.holds_lease`."""
        if self._has_lock():
            return True
        self._lost.set()
        return False

    async def lost_workers(self) -> list[int]:
        """Implement `Membership.lost_workers`; all other recorded workers, since only one can run."""
        async with self._database.read() as session:
            return list(await session.scalars(select(WorkerRow.id).where(WorkerRow.id != self._id)))

    async def fence(self, session: AsyncSession, worker_id: int) -> bool:
        """Implement `Membership.fence`."""
        return True

    async def try_lock(self, name: str) -> bool:
        """Implement `NamedLocks.try_lock`."""
        if name in self._locks:
            return False
        self._locks.add(name)
        return True

    async def unlock(self, name: str, *, notify: str | None = None) -> None:
        """Implement `NamedLocks.unlock`; no other worker has to be notified."""
        self._locks.discard(name)

    async def is_leader(self) -> bool:
        """Implement `LeaderElection.is_leader`."""
        return self._id is not None

    async def leave(self) -> None:
        """Implement `Membership.leave`."""
        try:
            if self._id is not None:
                async with self._database.write() as session:
                    await session.execute(delete(WorkerRow).where(WorkerRow.id == self._id))
        finally:
            self._id = None
            self._unlock_file()

    def _has_lock(self) -> bool:
        """Return whether this process has locked the file that has the name now: someone may have deleted it."""
        try:
            return self._file is not None and os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False

    def _unlock_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


async def living_on_sqlite(database: Database) -> set[str]:
    """Return the name of the worker, if its process runs."""
    if not await asyncio.to_thread(is_in_use, database.url.database or ""):
        return set()
    async with database.read() as session:
        return set(await session.scalars(select(WorkerRow.name)))


def is_in_use(database: str) -> bool:
    """Return whether a process works on an SQLite file. A process that starts at the same moment may be refused."""
    try:
        descriptor = open_regular(_lock_path(database), follow_links=True)
    except OSError:
        return False
    try:
        return is_locked(descriptor)
    finally:
        os.close(descriptor)


def database_in_use(database: str) -> Unavailable:
    """Return the error for an SQLite file on which another process works."""
    return Unavailable(
        f"another tagferry process uses {database}; to run several processes, set database_url to PostgreSQL"
    )


def _lock_path(database: str) -> Path:
    return Path(f"{database}.lock")


def _lock_file(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        fault = file_fault(error, action="written")
        raise Unavailable(f'"{path}" {fault}; it has to belong to the user who runs tagferry, or be deleted') from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise database_in_use(str(path.with_suffix(""))) from None
    return descriptor
