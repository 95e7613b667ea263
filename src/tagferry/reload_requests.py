"""Requests to the processes of the database to reload their configurations, and their answers.

A request is written to the record of each process. A message only saves waiting: a process also looks by itself.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from tagferry.coordination.pubsub import MessageBus, Topic
from tagferry.db.batches import error_summary
from tagferry.db.engine import Database
from tagferry.db.tables import ProcessRow
from tagferry.errors import DatabaseUnavailable
from tagferry.events import SparseEvents
from tagferry.workers import LOST_AFTER, ago, ended_processes

RELOADS: Topic[str] = Topic("reload", encode=str, decode=str)
"""The ids of requests."""
_LOCAL_POLL_SECONDS = 1.0
"""With SQLite, requests come from other programs on this machine, which have no way to send a message."""
_SHARED_POLL_SECONDS = 10.0

log = SparseEvents(__name__)


@dataclass(frozen=True, slots=True)
class ReloadAnswer:
    """How a process has answered a request.

    Attributes:
        process: its host and process id.
        has_answered: whether it has.
        error: why it changed nothing; None if it applied its configuration.
        changed: the settings that have changed.
        has_ended: whether the process was killed before it answered.
    """

    process: str
    has_answered: bool
    error: str | None = None
    changed: Sequence[str] = ()
    has_ended: bool = False


class ReloadRequests:
    """Makes requests to all processes of the database."""

    def __init__(self, database: Database, bus: MessageBus) -> None:
        self._database = database
        self._bus = bus

    async def add(self) -> str:
        """Request all processes that are not lost to reload; returns the id of the request."""
        request = uuid.uuid4().hex
        is_present = ProcessRow.seen_at >= ago(self._database, LOST_AFTER)
        async with self._database.write() as session:
            await session.execute(update(ProcessRow).where(is_present).values(reload_requested=request))
            await self._bus.publish(session, RELOADS, [request])
        return request

    async def answers(self, request: str) -> list[ReloadAnswer]:
        """Return the answers of the processes that were asked and have not ended since."""
        asked = select(ProcessRow).where(ProcessRow.reload_requested == request).order_by(ProcessRow.name)
        async with self._database.read() as session:
            answers = [_answer(row, request) for row in await session.scalars(asked)]
        if all(answer.has_answered for answer in answers):
            return answers
        ended = await ended_processes(self._database)
        return [
            answer if answer.has_answered else replace(answer, has_ended=answer.process in ended) for answer in answers
        ]


class ReloadInbox:
    """The requests to this process.

    Args:
        database: has the requests.
        bus: notifies of new ones, if the database is shared.
        process_id: identifies the record of this process.
    """

    def __init__(self, database: Database, bus: MessageBus, process_id: str) -> None:
        self._database = database
        self._process_id = process_id
        self._woken = asyncio.Event()
        self._has_signal = False
        self._last: str | None = None
        self._unwritten: dict[str, Any] | None = None
        bus.subscribe(RELOADS, lambda _: self._woken.set())

    def signal(self) -> None:
        """Make a request that gets no answer but the log's, for SIGHUP."""
        self._has_signal = True
        self._woken.set()

    async def next(self) -> str | None:
        """Wait for a request; returns its id, or None for a signal."""
        pause = _SHARED_POLL_SECONDS if self._database.is_shared else _LOCAL_POLL_SECONDS
        while True:
            self._woken.clear()
            if self._has_signal:
                self._has_signal = False
                return None
            if (request := await self._look()) is not None:
                return request
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    async def answer(self, request: str, error: str | None, changed: Sequence[str]) -> None:
        """Answer a request, or as soon as the database can record the answer."""
        self._last = request
        self._unwritten = {"reload_answered": request, "reload_answer": {"error": error, "changed": list(changed)}}
        await self._guarded(self._write())

    async def _look(self) -> str | None:
        await self._guarded(self._write())
        request = await self._guarded(self._read())
        return request if request != self._last else None

    async def _write(self) -> None:
        if self._unwritten is not None:
            async with self._database.write() as session:
                mine = ProcessRow.id == self._process_id
                await session.execute(update(ProcessRow).where(mine).values(self._unwritten))
            self._unwritten = None

    async def _read(self) -> str | None:
        mine = select(ProcessRow.reload_requested).where(ProcessRow.id == self._process_id)
        async with self._database.read() as session:
            request: str | None = await session.scalar(mine)
        return request

    async def _guarded(self, work: Awaitable[str | None]) -> str | None:
        try:
            return await work
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            log.warning("could not exchange requests to reload with the database", reason=error_summary(error))
            return None


def _answer(row: ProcessRow, request: str) -> ReloadAnswer:
    if row.reload_answered != request:
        return ReloadAnswer(row.name, has_answered=False)
    answer = row.reload_answer or {}
    return ReloadAnswer(row.name, has_answered=True, error=answer.get("error"), changed=answer.get("changed") or ())
