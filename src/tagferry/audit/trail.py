"""Write audit records in the background, so that no request waits for the database."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import structlog
from sqlalchemy import insert

from tagferry import bounds
from tagferry.audit.anonymous import AnonymousRequests
from tagferry.audit.model import AuditRecord
from tagferry.db.batches import error_summary, write_bisecting
from tagferry.db.engine import Database
from tagferry.db.tables import AuditRecordRow
from tagferry.events import SparseEvents
from tagferry.metrics import AUDIT_RECORDS_LOST
from tagferry.printable import printable
from tagferry.supervision import Supervisor

_GATHER_SECONDS = 0.5
"""Seconds for which records are gathered before they are written together."""
_RETRY_SECONDS = 5.0
_BATCH = 500
_CLOSE_SECONDS = 3.0
"""Seconds for the last records at shutdown."""

log = structlog.get_logger(__name__)
sparse = SparseEvents(__name__)


class AuditTrail:
    """The audit records that are not in the database yet.

    Args:
        database: gets the records.
        capacity: the maximum number of records that wait. Further ones are lost, counted and logged.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        database: Database,
        *,
        capacity: int = bounds.AUDIT_RECORDS_UNWRITTEN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._capacity = capacity
        self._anonymous = AnonymousRequests(clock=clock)
        self._unwritten: deque[AuditRecord] = deque()
        self._has_unwritten = asyncio.Event()
        self._writing = asyncio.Lock()

    def add(self, record: AuditRecord) -> None:
        """Add a record; returns at once, and never fails."""
        for one in self._anonymous.due():
            self._enqueue(one)
        if record.user or self._anonymous.admit(record):
            self._enqueue(record)

    async def keep_writing(self) -> None:
        """Write records until cancelled."""
        while True:
            await self._wait()
            for one in self._anonymous.due():
                self._enqueue(one)
            async with self._writing:
                is_written = await self._write()
            await asyncio.sleep(_GATHER_SECONDS if is_written else _RETRY_SECONDS)

    async def close(self, writer: asyncio.Task[NoReturn]) -> None:
        """End the task that writes, and write what is left, for a few seconds at most."""
        for one in self._anonymous.due(at_once=True):
            self._enqueue(one)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS), self._writing:
                # Under the lock: a write that is cancelled during its commit would be repeated.
                writer.cancel()
                while self._unwritten and await self._write():
                    pass
        writer.cancel()
        await asyncio.wait([writer])
        if self._unwritten:
            self._lose(len(self._unwritten), "the process ended before they were written")

    def _enqueue(self, record: AuditRecord) -> None:
        if len(self._unwritten) >= self._capacity:
            self._lose(1, "too many wait for the database")
            return
        self._unwritten.append(record)
        self._has_unwritten.set()

    def _lose(self, records: int, reason: str) -> None:
        AUDIT_RECORDS_LOST.labels(reason=reason).inc(records)
        sparse.warning("audit records were lost; the audit log has them", reason=reason, records=records)

    async def _wait(self) -> None:
        """Wait for records, or until the counts of a minute are due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._anonymous.seconds_left):
                await self._has_unwritten.wait()

    async def _write(self) -> bool:
        """Write the oldest records; returns whether the database accepted or refused each."""
        records = [self._unwritten[index] for index in range(min(_BATCH, len(self._unwritten)))]
        batch = await write_bisecting(records, self._insert, kind="audit record")
        for _ in range(len(batch.written) + len(batch.refused)):
            self._unwritten.popleft()
        if not self._unwritten:
            self._has_unwritten.clear()
        if batch.refused:
            log.error("the database refused audit records", records=len(batch.refused), reason=batch.refused[0][1])
        if batch.error is not None:
            reason = error_summary(batch.error)
            sparse.warning("audit records could not be written yet", waiting=len(self._unwritten), reason=reason)
        return batch.error is None

    async def _insert(self, records: list[AuditRecord]) -> None:
        async with self._database.write() as session:
            await session.execute(insert(AuditRecordRow), [_row(record) for record in records])


@asynccontextmanager
async def open_trail(database: Database, supervisor: Supervisor) -> AsyncIterator[AuditTrail]:
    """Open the audit trail of this process, which is written while the context is open."""
    trail = AuditTrail(database)
    writing = supervisor.start("recording audit records", trail.keep_writing)
    try:
        yield trail
    finally:
        await trail.close(writing)


def _row(record: AuditRecord) -> dict[str, Any]:
    def text(value: str, limit: int) -> str | None:
        return printable(value, limit)[:limit] or None

    return {
        "occurred_at": record.occurred_at,
        "user_name": text(record.user, 64),
        "access_key": text(record.access_key, 64),
        "method": text(record.method, 32) or "",
        "operation": text(record.operation, 64),
        "path": printable(record.path, bounds.AUDITED_PATH_CHARACTERS),
        "status": record.status,
        "is_refused": record.is_refused,
        "region": record.region,
        "address": text(record.address, 64) or "",
        "request_id": record.request_id,
        "organization": text(record.organization, 64),
        "repository": text(record.repository, 255),
        "subject_user": text(record.subject_user, 64),
        "subject_key": text(record.subject_key, 64),
        "times": record.times,
    }
