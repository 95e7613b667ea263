"""Rows that are given as one parameter are read as if each value were a parameter."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import BigInteger, select
from sqlalchemy.exc import StatementError
from sqlalchemy.types import String, TypeEngine

from tagferry.db.columns import ByteCount, Document, FreeText, UtcDateTime, free_text
from tagferry.db.engine import Database
from tagferry.db.json_rows import json_rows

NUMBER = BigInteger()
CONTROLS = "a\x00b\ud800"


async def read(database: Database, kind: TypeEngine[Any], values: list[object]) -> list[object]:
    """Return values as the database has read them."""
    async with database.read() as session:
        connection = await session.connection()
        given = json_rows("rows", {"number": NUMBER, "value": kind}, dialect=connection.dialect.name)
        rows = [{"number": number, "value": value} for number, value in enumerate(values)]
        found = await connection.execute(select(given["number"], given["value"]), {"rows": rows})
        return [value for _, value in sorted(found.all(), key=lambda row: row[0])]


@pytest.mark.parametrize(
    ("kind", "given", "found"),
    [
        (String(9), "über 🚢\n", "über 🚢\n"),
        (FreeText(), free_text(CONTROLS), "a\\x00b\\ud800"),
        (String(9), "", ""),
        (BigInteger(), -5, -5),
        (ByteCount(), 2**80, 2**63 - 1),
        (UtcDateTime(), datetime(2026, 5, 1, 1, 2, 3, 4, UTC), datetime(2026, 5, 1, 1, 2, 3, 4, UTC)),
        (
            UtcDateTime(),
            datetime(2026, 5, 1, tzinfo=timezone(timedelta(hours=8))),
            datetime(2026, 4, 30, 16, tzinfo=UTC),
        ),
        (UtcDateTime(), datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)),
        (Document(), {"a": [1, "ü", None]}, {"a": [1, "ü", None]}),
        (Document(), [[CONTROLS, 0.5]], [[CONTROLS, 0.5]]),
        (Document(), [], []),
    ],
    ids=str,
)
async def test_a_value_is_read_as_it_was_given(database: Database, kind: TypeEngine[Any], given: object, found: object):
    assert await read(database, kind, [given, None, given]) == [found, None, found]


async def test_no_rows_are_read_as_none(database: Database):
    assert await read(database, String(9), []) == []


async def test_a_value_that_cannot_be_written_as_json_is_refused_like_any_other_value(database: Database):
    with pytest.raises(StatementError):
        await read(database, Document(), [{"a": object()}])
