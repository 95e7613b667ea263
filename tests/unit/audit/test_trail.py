"""Audit records are written in the background: no request waits for them, and losses are counted."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from tagferry import bounds, events
from tagferry.audit.anonymous import WINDOW_SECONDS, AnonymousRequests
from tagferry.audit.trail import AuditTrail, open_trail
from tagferry.db.engine import Database
from tagferry.db.tables import AuditRecordRow
from tagferry.metrics import AUDIT_RECORDS_LOST, RECORDS_REFUSED
from tagferry.supervision import Supervisor
from tests.support.clock import Clock
from tests.support.deployment import eventually
from tests.unit.audit.conftest import Making


async def paths(database: Database) -> list[str]:
    async with database.read() as session:
        return list(await session.scalars(select(AuditRecordRow.path).order_by(AuditRecordRow.id)))


def lost(reason: str) -> float:
    value: float = AUDIT_RECORDS_LOST.labels(reason=reason).value
    return value


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagferry.audit.trail._GATHER_SECONDS", 0.01)
    monkeypatch.setattr("tagferry.audit.trail._RETRY_SECONDS", 0.01)
    monkeypatch.setattr(events, "_logged", {})


async def test_records_are_written_soon(database: Database, record: Making):
    async with open_trail(database, Supervisor()) as trail:
        trail.add(record(path="/1"))
        trail.add(record(path="/2"))

        async def are_written() -> bool:
            return await paths(database) == ["/1", "/2"]

        await eventually(are_written)


async def test_the_end_of_the_process_loses_no_record(database: Database, record: Making):
    async with open_trail(database, Supervisor()) as trail:
        for number in range(1200):
            trail.add(record(path=f"/{number}"))

    assert await paths(database) == [f"/{number}" for number in range(1200)]


async def test_a_record_that_the_database_refuses_does_not_affect_the_others(
    database: Database, record: Making, monkeypatch: pytest.MonkeyPatch
):
    before = RECORDS_REFUSED.labels(kind="audit record").value
    trail = AuditTrail(database)
    for number in range(5):
        trail.add(record(path=f"/{number}", status=2**70 if number == 2 else 200))

    with capture_logs() as logged:
        assert await trail._write()

    assert await paths(database) == ["/0", "/1", "/3", "/4"]
    assert [line["records"] for line in logged if line["event"] == "the database refused audit records"] == [1]
    assert RECORDS_REFUSED.labels(kind="audit record").value == before + 1


async def test_records_wait_while_the_database_is_lost(
    database: Database, record: Making, monkeypatch: pytest.MonkeyPatch
):
    is_lost = True
    write = database.write

    @asynccontextmanager
    async def failing() -> Any:
        if is_lost:
            raise OperationalError("INSERT", None, Exception("the connection was closed"))
        async with write() as session:
            yield session

    monkeypatch.setattr(database, "write", failing)
    with capture_logs() as logged:
        async with open_trail(database, Supervisor()) as trail:
            trail.add(record(path="/1"))

            async def is_logged() -> bool:
                return any(line["event"] == "audit records could not be written yet" for line in logged)

            await eventually(is_logged)
            is_lost = False

            async def is_written() -> bool:
                return await paths(database) == ["/1"]

            await eventually(is_written)


async def test_a_full_queue_is_counted_and_logged_and_refuses_no_request(database: Database, record: Making):
    reason = "too many wait for the database"
    before = lost(reason)
    trail = AuditTrail(database, capacity=2)

    with capture_logs() as logged:
        for number in range(5):
            trail.add(record(path=f"/{number}"))

    assert lost(reason) == before + 3
    assert [line["log_level"] for line in logged] == ["warning"]
    assert await trail._write()
    assert await paths(database) == ["/0", "/1"]


async def test_records_that_cannot_be_written_at_the_end_are_counted(
    database: Database, record: Making, monkeypatch: pytest.MonkeyPatch
):
    reason = "the process ended before they were written"
    before = lost(reason)

    def hang() -> Any:
        @asynccontextmanager
        async def hanging() -> Any:
            await asyncio.Event().wait()
            yield

        return hanging()

    monkeypatch.setattr("tagferry.audit.trail._CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(database, "write", hang)
    async with open_trail(database, Supervisor()) as trail:
        trail.add(record())
        trail.add(record())

    assert lost(reason) == before + 2


async def test_texts_of_clients_are_cleaned_and_cut(database: Database, record: Making):
    trail = AuditTrail(database)
    trail.add(record(organization="a\x00\x1b[2J" + "b" * 100, method="X" * 100, path="/" + "p" * 5000))

    assert await trail._write()

    async with database.read() as session:
        row = (await session.scalars(select(AuditRecordRow))).one()
    assert row.organization is not None
    assert row.organization.startswith("a\\x00\\x1b[2Jbbb")
    assert (len(row.organization), len(row.method), len(row.path)) == (64, 32, bounds.AUDITED_PATH_CHARACTERS)


async def test_a_stranger_gets_a_few_records_a_minute_however_many_requests_it_sends(
    database: Database, record: Making
):
    clock = Clock()
    trail = AuditTrail(database, clock=clock)
    for number in range(1000):
        trail.add(record(user="", status=401, path=f"/{number}"))
    trail.add(record(path="/carol"))
    clock.now += WINDOW_SECONDS
    trail.add(record(user="", status=401, path="/later"))

    while trail._unwritten:
        assert await trail._write()

    async with database.read() as session:
        rows = await session.execute(select(AuditRecordRow.path, AuditRecordRow.times).order_by(AuditRecordRow.id))
    assert [tuple(row) for row in rows] == [("/0", 1), ("/carol", 1), ("/999", 999), ("/later", 1)]


def test_strangers_with_many_addresses_are_counted_together(record: Making):
    clock = Clock()
    anonymous = AnonymousRequests(clock=clock)
    requests = [record(user="", address=f"2001:db8:{number:x}::1") for number in range(1000)]
    same_network = [record(user="", address=f"2001:db8:0:0:{number:x}::1") for number in range(5)]

    admitted = [one for one in (*requests, *same_network) if anonymous.admit(one)]

    assert len(admitted) == bounds.AUDITED_ANONYMOUS_ADDRESSES
    assert anonymous.due() == []
    assert anonymous.seconds_left == WINDOW_SECONDS
    clock.now += WINDOW_SECONDS
    counted = {one.address: one.times for one in anonymous.due()}
    assert counted == {"": 1000 - bounds.AUDITED_ANONYMOUS_ADDRESSES, same_network[-1].address: 5}
