"""What the tables' columns and indexes are made of, where the databases differ."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its time zone; SQLite keeps none, so what comes back is told to be UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Identifier = BigInteger().with_variant(Integer(), "sqlite")
"""A row's number; only of this type does SQLite count on by itself."""


def rows_where(condition: str) -> dict[str, Any]:
    """What makes an index one of the rows that meet a condition only."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
