"""The processes that work on the database: each records itself, and administrators list them."""

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, delete, func, literal, select, update
from sqlalchemy.exc import SQLAlchemyError

from tagferry import __version__
from tagferry.accounts.model import Caller
from tagferry.coordination.backend import living_workers
from tagferry.db.batches import error_summary
from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import ProcessRow
from tagferry.errors import DatabaseUnavailable, Denied
from tagferry.events import SparseEvents
from tagferry.metrics import DATABASE_UP
from tagferry.names import RegionId
from tagferry.sync.jobs.worker import Worker

SEEN_SECONDS = 10.0
"""Seconds between two records of a process."""
LOST_AFTER = timedelta(seconds=45)
"""Age of its last record from which a process counts as lost."""
_MISSED_RECORD = timedelta(seconds=SEEN_SECONDS + 2)
"""Age of its last record from which a process has missed one."""
_FORGOTTEN_AFTER = timedelta(days=1)
_MISSED_FOR = timedelta(hours=1)
"""The time for which a lost process counts as missing; by then it has been replaced, or is not needed."""

log = SparseEvents(__name__)


class ConfiguredRegion(TypedDict):
    """A region as a process knows it, without secrets."""

    id: str
    listen: str | None
    registry: str
    url: str
    organizations: str


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process, as it was last seen.

    Attributes:
        name: its host and process id.
        regions: the regions that it serves.
        slots: how many jobs it may run at once; 0 if it runs none.
        running: how many jobs it was running.
        is_leader: whether it does what only one process does.
        is_lost: whether it has not been seen for a while; it may have been killed.
        configured: the regions that it knows; None for a process of an older version.
        key_ids: the identifiers of its keys, newest first.
    """

    name: str
    version: str
    regions: Sequence[str]
    slots: int
    running: int
    is_leader: bool
    started_at: datetime
    seen_at: datetime
    is_lost: bool
    configured: Sequence[ConfiguredRegion] | None = None
    key_ids: Sequence[str] = ()


class ProcessRecord:
    """The record of this process, which is kept up to date.

    Attributes:
        id: identifies the process among those of the database.
        name: its host and process id.
        configured: the regions that it knows; a reload changes them.
        key_ids: returns the identifiers of the keys with which it can decrypt secrets, newest first.

    Args:
        database: has the records of all processes.
        worker: runs the jobs of this process.
        regions: the regions that this process serves.
        is_leader: returns whether this process is the leader.
    """

    def __init__(
        self,
        database: Database,
        worker: Worker,
        *,
        regions: Iterable[RegionId],
        is_leader: Callable[[], Awaitable[bool]],
    ) -> None:
        self._database = database
        self._worker = worker
        self._regions = list(regions)
        self._is_leader = is_leader
        self.id = uuid.uuid4().hex
        self.configured: Sequence[ConfiguredRegion] = ()
        self.key_ids: Callable[[], Sequence[str]] = tuple
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._started_at = datetime.now(UTC)

    async def keep(self) -> None:
        """Update the record until cancelled."""
        while True:
            await self.try_update()
            await asyncio.sleep(SEEN_SECONDS)

    async def try_update(self) -> None:
        """Update the record, unless the database cannot be used."""
        try:
            await self.update()
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            DATABASE_UP.set(0)
            log.warning("could not record this process", reason=error_summary(error))
        else:
            DATABASE_UP.set(1)

    async def update(self) -> None:
        """Record that this process is running, and forget those that were lost long ago."""
        state: dict[str, Any] = {
            "running": self._worker.running,
            "is_leader": self._worker.slots > 0 and await self._is_leader(),
            "seen_at": ago(self._database, timedelta(0)),
            "configured": list(self.configured),
            "key_ids": list(self.key_ids()),
        }
        async with self._database.write() as session:
            updated = await session.execute(update(ProcessRow).where(ProcessRow.id == self.id).values(state))
            if not updated.rowcount:  # type: ignore[attr-defined]
                session.add(
                    ProcessRow(
                        id=self.id,
                        name=self.name,
                        version=__version__,
                        regions=self._regions,
                        slots=self._worker.slots,
                        started_at=self._started_at,
                        **state,
                    )
                )
                await session.flush()
                # With SQLite there is only one process, so all others have ended.
                kept_for = _FORGOTTEN_AFTER if self._database.is_shared else timedelta(0)
                await session.execute(
                    delete(ProcessRow).where(
                        ProcessRow.id != self.id, ProcessRow.seen_at < ago(self._database, kept_for)
                    )
                )

    async def remove(self) -> None:
        """Delete the record."""
        try:
            async with self._database.write() as session:
                await session.execute(delete(ProcessRow).where(ProcessRow.id == self.id))
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            log.warning("could not remove the record of this process", reason=error_summary(error))


@dataclass(frozen=True, slots=True)
class ProcessCount:
    """The numbers of processes that run jobs.

    Attributes:
        alive: those that have been seen lately.
        missing: those that have not, and have not stopped either; they count for an hour.
    """

    alive: int
    missing: int


class ProcessList:
    """The processes of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, caller: Caller) -> list[ProcessInfo]:
        """Return the processes, those that were started last first.

        Raises:
            Denied: the caller is not an administrator.
        """
        if not caller.is_admin:
            raise Denied(f'user "{caller.name}" is not an administrator; only administrators list workers')
        return await self.load()

    async def known_regions(self) -> set[RegionId]:
        """Return the regions that the running processes know."""
        running = [one for one in await self.load() if not one.is_lost]
        return {RegionId(region["id"]) for one in running for region in one.configured or ()}

    async def load(self) -> list[ProcessInfo]:
        """Return the processes, those that were started last first, for a caller who may use the database."""
        newest_first = ProcessRow.started_at.desc(), ProcessRow.id
        wanted = select(ProcessRow, (ProcessRow.seen_at < ago(self._database, LOST_AFTER)).label("is_lost"))
        async with self._database.read() as session:
            rows = (await session.execute(wanted.order_by(*newest_first))).all()
        return [
            ProcessInfo(
                name=row.name,
                version=row.version,
                regions=row.regions,
                slots=row.slots,
                running=row.running,
                is_leader=row.is_leader and not is_lost,
                started_at=row.started_at,
                seen_at=row.seen_at,
                is_lost=bool(is_lost),
                configured=row.configured,
                key_ids=row.key_ids or (),
            )
            for row, is_lost in rows
        ]

    async def count(self) -> ProcessCount:
        """Return the numbers of the processes that run jobs."""
        is_lost = (ProcessRow.seen_at < ago(self._database, LOST_AFTER)).label("is_lost")
        wanted = (
            select(is_lost, func.count())
            .where(ProcessRow.slots > 0, ProcessRow.seen_at > ago(self._database, _MISSED_FOR))
            .group_by(is_lost)
        )
        async with self._database.read() as session:
            counts = {bool(lost): count for lost, count in await session.execute(wanted)}
        return ProcessCount(alive=counts.get(False, 0), missing=counts.get(True, 0))


async def ended_processes(database: Database) -> set[str]:
    """Return the names of the recorded processes that have ended without removing their records, as after a kill.

    A process that runs jobs holds a lock while it runs. One that has lost its connection to PostgreSQL and takes its
    lock again does not count, since its record is fresh. Processes that run no jobs have no lock, and are lost later.
    """
    wanted = select(ProcessRow.name).where(ProcessRow.slots > 0)
    if database.is_shared:
        wanted = wanted.where(ProcessRow.seen_at < ago(database, _MISSED_RECORD))
    async with database.read() as session:
        names = set(await session.scalars(wanted))
    return names - await living_workers(database) if names else names


async def process_names(database: Database, *, serves: bool) -> list[str]:
    """Return the names of recorded processes, also of lost ones: their host and process id.

    Args:
        database: has the records.
        serves: whether they serve regions, or are workers.
    """
    async with database.read() as session:
        found = await session.execute(select(ProcessRow.name, ProcessRow.regions))
        return [name for name, regions in found if bool(regions) == serves]


def ago(database: Database, age: timedelta) -> ColumnElement[Any]:
    """Return a time in the past. The clocks of machines may differ, so the clock of a shared database counts."""
    return func.now() - age if database.is_shared else literal(datetime.now(UTC) - age, UtcDateTime)
