"""Requests to reload reach every running process, and each answers."""

import asyncio
from datetime import timedelta
from typing import cast

import pytest
from sqlalchemy import update

from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import ProcessRow
from tagferry.names import RegionId
from tagferry.reload_requests import ReloadInbox, ReloadRequests
from tagferry.sync.jobs.worker import Worker
from tagferry.workers import LOST_AFTER, ProcessList, ProcessRecord, ago
from tests.support.deployment import eventually
from tests.unit.test_workers import FakeWorker


async def process(database: Database) -> tuple[ProcessRecord, ReloadInbox]:
    """A running process, which gets no messages."""

    async def leads() -> bool:
        return False

    record = ProcessRecord(database, cast("Worker", FakeWorker()), regions=[RegionId("north")], is_leader=leads)
    await record.update()
    return record, ReloadInbox(database, LocalMessageBus(), record.id)


async def processes(database: Database, count: int) -> list[tuple[ProcessRecord, ReloadInbox]]:
    """So many running processes, or one with SQLite."""
    return [await process(database) for _ in range(count if database.is_shared else 1)]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagferry.reload_requests._LOCAL_POLL_SECONDS", 0.01)
    monkeypatch.setattr("tagferry.reload_requests._SHARED_POLL_SECONDS", 0.01)


async def test_a_request_reaches_each_process_without_a_message(database: Database):
    inboxes = [inbox for _, inbox in await processes(database, 2)]
    waiting = [asyncio.create_task(inbox.next()) for inbox in inboxes]

    request = await ReloadRequests(database, LocalMessageBus()).add()

    assert await asyncio.wait_for(asyncio.gather(*waiting), 30) == [request] * len(inboxes)


async def test_answers_are_read_by_who_asked(database: Database):
    inboxes = [inbox for _, inbox in await processes(database, 3)]
    requests = ReloadRequests(database, LocalMessageBus())
    request = await requests.add()
    results: list[tuple[str | None, list[str]]] = [(None, ["log_level"]), ("data_dir cannot change", [])]

    for inbox, result in zip(inboxes, results, strict=False):
        await inbox.answer(request, *result)

    answers = [(one.has_answered, one.error, list(one.changed)) for one in await requests.answers(request)]
    expected = [*((True, *result) for result in results), (False, None, [])][: len(inboxes)]
    assert sorted(answers, key=str) == sorted(expected, key=str)


async def test_a_request_is_delivered_once(database: Database):
    _, inbox = await process(database)
    request = await ReloadRequests(database, LocalMessageBus()).add()
    assert await asyncio.wait_for(inbox.next(), 30) == request
    await inbox.answer(request, None, [])

    again = asyncio.create_task(inbox.next())
    inbox.signal()

    assert await asyncio.wait_for(again, 30) is None


async def test_a_message_saves_the_wait(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.reload_requests._LOCAL_POLL_SECONDS", 3600.0)
    monkeypatch.setattr("tagferry.reload_requests._SHARED_POLL_SECONDS", 3600.0)
    record, _ = await process(database)
    bus = LocalMessageBus()
    inbox = ReloadInbox(database, bus, record.id)
    waiting = asyncio.create_task(inbox.next())
    await asyncio.sleep(0)

    request = await ReloadRequests(database, bus).add()

    assert await asyncio.wait_for(waiting, 30) == request


async def test_a_process_that_was_lost_is_not_asked(database: Database):
    await process(database)
    (known,) = await ProcessList(database).load()
    async with database.write() as session:
        await session.execute(update(ProcessRow).values(seen_at=known.started_at - LOST_AFTER - timedelta(minutes=1)))

    requests = ReloadRequests(database, LocalMessageBus())

    assert await requests.answers(await requests.add()) == []


async def test_a_process_that_has_ended_no_longer_keeps_the_caller_waiting(database: Database):
    record, _ = await process(database)
    requests = ReloadRequests(database, LocalMessageBus())
    request = await requests.add()
    before = await requests.answers(request)

    await record.remove()

    assert [one.has_answered for one in before] == [False]
    assert await requests.answers(request) == []


async def test_a_process_that_was_killed_has_ended_once_its_lock_is_free(database: Database):
    membership = coordination_of(database)
    await membership.join()
    await process(database)
    async with database.write() as session:
        # It has missed a record, which only with PostgreSQL is needed.
        await session.execute(update(ProcessRow).values(seen_at=ago(database, timedelta(seconds=20))))
    requests = ReloadRequests(database, LocalMessageBus())
    request = await requests.add()
    running = await requests.answers(request)
    await membership.leave()

    async def has_ended() -> bool:
        return all(one.has_ended for one in await requests.answers(request))

    assert [(one.has_answered, one.has_ended) for one in running] == [(False, False)]
    await eventually(has_ended)
