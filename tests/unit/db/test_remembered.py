"""Results are remembered while the generation is the same, and never served once it has changed."""

import pytest
from sqlalchemy import bindparam, event, select, text
from sqlalchemy.orm import aliased

from tagferry.db.engine import Database
from tagferry.db.remembered import RememberedQuery, Rows
from tagferry.db.tables import AccessKeyRow, DomainRow, SyncJobRow, UserRow

NAMES = select(DomainRow.name).where(DomainRow.id == bindparam("id"))


def first(rows: Rows) -> str | None:
    return rows[0].name if rows else None


@pytest.fixture
def executed(database: Database) -> list[str]:
    """The statements that SQLAlchemy executes."""
    statements: list[str] = []
    event.listen(
        database._engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    return statements


async def rename(database: Database, name: str) -> None:
    async with database.write() as session:
        await session.execute(text("DELETE FROM domains"))
        await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', :name)"), {"name": name})


async def test_a_result_is_read_once_until_something_changes(database: Database, executed: list[str]):
    query = RememberedQuery(database, NAMES, first)
    await rename(database, "acme")
    assert await query.get({"id": "1"}) == "acme"
    executed.clear()

    assert [await query.get({"id": "1"}) for _ in range(10)] == ["acme"] * 10
    assert executed == []

    await rename(database, "other")
    assert await query.get({"id": "1"}) == "other"


async def test_a_missing_result_is_not_remembered(database: Database, executed: list[str]):
    query = RememberedQuery(database, NAMES, first)
    assert await query.get({"id": "1"}) is None
    executed.clear()

    assert await query.get({"id": "1"}) is None
    assert len(executed) == 1


async def test_a_long_key_counts_as_well(database: Database, executed: list[str]):
    among = select(DomainRow.name).where(DomainRow.id.in_(bindparam("ids", expanding=True)))
    query = RememberedQuery(database, among, lambda rows: list(rows), size=lambda _: 1, limit=10)
    for ids in (("a", "b"), ("c",), tuple("abcdefghij")):
        await query.get({"ids": ids})
    executed.clear()

    await query.get({"ids": ("a", "b")})
    assert executed == []
    await query.get({"ids": tuple("abcdefghij")})
    assert len(executed) == 1


async def test_results_that_were_not_used_for_the_longest_time_are_forgotten(database: Database, executed: list[str]):
    query = RememberedQuery(database, NAMES, lambda rows: list(rows), size=lambda _: 4, limit=10)
    for name in ("a", "b", "a", "c"):
        await query.get({"id": name})
    executed.clear()

    await query.get({"id": "a"})
    await query.get({"id": "c"})
    assert executed == []
    await query.get({"id": "b"})
    assert len(executed) == 1


async def test_a_result_that_is_larger_than_the_limit_is_not_remembered(database: Database, executed: list[str]):
    query = RememberedQuery(database, NAMES, lambda rows: list(rows), size=lambda _: 11, limit=10)
    await query.get({"id": "a"})
    executed.clear()

    await query.get({"id": "a"})

    assert len(executed) == 1


async def test_a_change_between_the_generation_and_the_rows_is_not_remembered_for_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    query = RememberedQuery(database, NAMES, first)
    await rename(database, "acme")
    read = database.rows

    async def slowly(*arguments: object) -> Rows:
        found = await read(*arguments)  # type: ignore[arg-type]
        await rename(database, "other")
        return found

    monkeypatch.setattr(database, "rows", slowly)
    assert await query.get({"id": "1"}) == "acme"
    monkeypatch.undo()

    assert await query.get({"id": "1"}) == "other"


async def test_nothing_is_remembered_while_the_generation_is_unknown(database: Database, executed: list[str]):
    query = RememberedQuery(database, NAMES, first)
    await rename(database, "acme")
    async with database.write() as session:
        await session.execute(text("DELETE FROM generation"))
    executed.clear()

    assert [await query.get({"id": "1"}) for _ in range(3)] == ["acme"] * 3
    assert len(executed) == 3


def test_a_query_of_what_the_generation_does_not_cover_is_refused(database: Database):
    with pytest.raises(ValueError, match="does not cover the table sync_jobs"):
        RememberedQuery(database, select(SyncJobRow.id), first)
    with pytest.raises(ValueError, match="does not cover the table sync_jobs"):
        RememberedQuery(database, select(UserRow.id).where(UserRow.id.in_(select(SyncJobRow.operator_id))), first)
    with pytest.raises(ValueError, match="does not cover the table sync_jobs"):
        RememberedQuery(database, select(UserRow.id).join(SyncJobRow, SyncJobRow.operator_id == UserRow.id), first)
    with pytest.raises(ValueError, match=r"does not cover the column access_keys\.last_used_at"):
        RememberedQuery(database, select(AccessKeyRow.last_used_at), first)
    with pytest.raises(ValueError, match=r"does not cover the column access_keys\.last_used_at"):
        RememberedQuery(database, select(aliased(AccessKeyRow).last_used_at), first)
    with pytest.raises(ValueError, match=r"does not cover the column access_keys\.last_used_at"):
        RememberedQuery(database, select(aliased(AccessKeyRow, select(AccessKeyRow).subquery()).last_used_at), first)
    RememberedQuery(database, select(aliased(AccessKeyRow, name="users").access_key), first)
