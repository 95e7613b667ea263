"""The list of audit records and their deletion, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagferry.accounts.model import Caller
from tagferry.audit.log import AuditLog
from tagferry.audit.model import AuditQuery, AuditRecord, Position
from tagferry.audit.trail import AuditTrail
from tagferry.db.engine import Database
from tagferry.errors import Denied, Invalid
from tests.unit.audit.conftest import MORNING, Making

ADMIN = Caller("1", "admin", "2", "tagferry", is_admin=True)
CAROL = Caller("3", "carol", "2", "tagferry", is_admin=False)


async def write(database: Database, *records: AuditRecord) -> None:
    trail = AuditTrail(database)
    for one in records:
        trail._enqueue(one)
    while trail._unwritten:
        assert await trail._write()


async def minutes(log: AuditLog, **terms: Any) -> list[float]:
    page = await log.search(ADMIN, AuditQuery(**terms))
    return [(one.occurred_at - MORNING).total_seconds() / 60 for one in page.records]


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database, kept=timedelta(days=36500), max_records=0)


async def test_a_record_is_read_as_it_was_written(database: Database, log: AuditLog, record: Making):
    written = record(user="carol", access_key="AK", subject_user="dave", subject_key="HIS", times=3)
    await write(database, written)

    (found,) = (await log.search(ADMIN, AuditQuery())).records

    assert replace(found, id=0) == written


async def test_only_administrators_read_the_records(log: AuditLog):
    with pytest.raises(Denied, match="not an administrator"):
        await log.search(CAROL, AuditQuery())


async def test_each_filter_selects_its_records_newest_first(database: Database, log: AuditLog, record: Making):
    await write(
        database,
        record(0, user="dave"),
        record(1, organization="release", repository="release/app"),
        record(2, method="DELETE", operation="delete a tag"),
        record(3, status=403),
        record(4, user="", status=401),
        record(5),
    )

    assert await minutes(log) == [5, 4, 3, 2, 1, 0]
    assert await minutes(log, user="carol", refused=True) == [3]
    assert await minutes(log, user="dave") == [0]
    assert await minutes(log, organization="release") == [1]
    assert await minutes(log, repository="team/app", method="POST") == [5, 4, 3, 0]
    assert await minutes(log, method="DELETE") == [2]
    assert await minutes(log, operation="delete a tag") == [2]
    assert await minutes(log, refused=True) == [4, 3]
    since, until = MORNING + timedelta(minutes=1), MORNING + timedelta(minutes=3)
    assert await minutes(log, since=since, until=until) == [2, 1]


async def test_pages_follow_each_other_although_records_are_added(database: Database, log: AuditLog, record: Making):
    await write(database, *(record(number // 2) for number in range(6)))
    first = await log.search(ADMIN, AuditQuery(limit=3))
    await write(database, record(9))

    assert first.next is not None
    second = await log.search(ADMIN, AuditQuery(limit=3, after=Position.parse(str(first.next))))

    assert [one.id for one in (*first.records, *second.records)] == [6, 5, 4, 3, 2, 1]
    assert second.next is None


@pytest.mark.parametrize("marker", ["", "1", "x-1", "1-x", "-1-1", "9" * 18 + "-1", "٣-1"])
def test_a_marker_that_is_none_is_refused(marker: str):
    with pytest.raises(Invalid, match="marker"):
        Position.parse(marker)


async def test_old_records_and_those_above_the_maximum_are_deleted(
    database: Database, record: Making, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.db.pruning._DELETED_PER_TRANSACTION", 2)
    now = datetime.now(UTC)
    log = AuditLog(database, kept=timedelta(days=1), max_records=20)
    old = [record(occurred_at=now - timedelta(days=2, seconds=number)) for number in range(5)]
    new = [record(occurred_at=now - timedelta(seconds=number), path=f"/{number}") for number in range(23)]
    await write(database, *old, *new)

    assert await log.prune() == 5 + 3

    left = (await log.search(ADMIN, AuditQuery())).records
    assert [one.path for one in left] == [f"/{number}" for number in range(20)]


async def test_anonymous_requests_displace_no_others(database: Database, record: Making):
    now = datetime.now(UTC)
    log = AuditLog(database, kept=timedelta(days=1), max_records=20)
    named = [record(occurred_at=now - timedelta(minutes=1, seconds=number)) for number in range(15)]
    anonymous = [record(occurred_at=now - timedelta(seconds=number), user="") for number in range(30)]
    await write(database, *named, *anonymous)

    await log.prune()

    left = (await log.search(ADMIN, AuditQuery())).records
    assert [bool(one.user) for one in left] == [False] * 2 + [True] * 15
