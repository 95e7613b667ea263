"""Columns clamp or sanitize values that databases refuse, and tolerate values that were damaged on disk."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from tagferry import bounds
from tagferry.db.columns import ByteCount, Document, FreeText, UtcDateTime
from tagferry.db.engine import Database

VALUES = Table(
    "values_of_test_columns",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("moment", UtcDateTime),
    Column("words", FreeText),
    Column("size", ByteCount),
    Column("document", Document),
)


async def kept(database: Database, **values: object) -> object:
    """A row as it was read."""
    async with database.write() as session:
        connection = await session.connection()
        await connection.run_sync(VALUES.metadata.drop_all)
        await connection.run_sync(VALUES.metadata.create_all)
        await session.execute(insert(VALUES).values(id=1, **values))
    async with database.write() as session:
        (row,) = await session.execute(select(*(VALUES.c[name] for name in values)))
        await (await session.connection()).run_sync(VALUES.metadata.drop_all)
        return row[0]


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), datetime(1, 1, 2, tzinfo=UTC)),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=14))), datetime(9999, 12, 30, tzinfo=UTC)),
    ],
)
async def test_a_time_outside_the_range_is_clamped(database: Database, moment: datetime, shown: datetime):
    assert await kept(database, moment=moment) == shown


@pytest.mark.parametrize(
    ("size", "shown"), [(2**63 - 1, 2**63 - 1), (2**63, 2**63 - 1), (10**400, 2**63 - 1), (None, None)]
)
async def test_a_size_beyond_64_bits_is_clamped(database: Database, size: int | None, shown: int | None):
    assert await kept(database, size=size) == shown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("über\n\tmany 🚢", "über\n\tmany 🚢"),
        ("\x00\x1b[2J\x7f\x9b", "\\x00\\x1b[2J\\x7f\\x9b"),
        ("\ud800 \udfff", "\\ud800 \\udfff"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("x" * bounds.RECORDED_TEXT, "x" * bounds.RECORDED_TEXT),
        ("x" * (bounds.RECORDED_TEXT + 1), "x" * (bounds.RECORDED_TEXT - 1) + "…"),
        (None, None),
    ],
)
async def test_harmful_characters_of_a_text_are_escaped(database: Database, words: str | None, shown: str | None):
    assert await kept(database, words=words) == shown


async def test_a_document_is_read_as_it_was_written(database: Database):
    assert await kept(database, document={"a": [1, None]}) == {"a": [1, None]}
