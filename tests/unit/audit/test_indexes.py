"""Each filter of the list reads an index in its order, however many records there are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from tagferry.accounts.model import Caller
from tagferry.audit.log import AuditLog
from tagferry.audit.model import AuditQuery, Position
from tagferry.db.engine import Database

ADMIN = Caller("1", "admin", "2", "tagferry", is_admin=True)
NOW = datetime(2026, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("terms", "index"),
    [
        ({}, "time"),
        ({"user": "carol"}, "user"),
        ({"organization": "team"}, "organization"),
        ({"repository": "team/app"}, "repository"),
        ({"method": "DELETE"}, "method"),
        ({"operation": "delete a tag"}, "operation"),
        ({"refused": True}, "refused"),
        ({"refused": True, "user": "carol", "method": "GET"}, "refused"),
        ({"since": NOW, "until": NOW + timedelta(days=1)}, "time"),
        ({"until": NOW, "user": "carol"}, "user"),
        ({"after": Position(NOW, 7)}, "time"),
        ({"after": Position(NOW, 7), "operation": "delete a tag"}, "operation"),
    ],
)
async def test_a_filter_reads_the_newest_records_from_its_index(tmp_path: Path, terms: dict[str, Any], index: str):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    statements: list[tuple[str, Any]] = []

    def record(_: object, __: object, statement: str, parameters: Any, ___: object, ____: bool) -> None:
        if "FROM audit_records" in statement:
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        await AuditLog(database, kept=timedelta(days=1), max_records=0).search(ADMIN, AuditQuery(**terms))
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    ((statement, parameters),) = statements
    async with database.read() as session:
        connection = await session.connection()
        plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).mappings().all()
        assert await session.scalar(text("SELECT count(*) FROM audit_records")) == 0
    await database.close()

    shown = " ".join(str(row["detail"]) for row in plan)
    assert f"ix_audit_records_{index}" in shown
    assert "TEMP B-TREE" not in shown
