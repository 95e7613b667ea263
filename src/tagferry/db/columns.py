"""What the tables' columns and indexes are made of, where the databases differ."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Integer, Text, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from tagferry import bounds
from tagferry.printable import printable

_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Within these, a moment has a date in every time zone."""
_LARGEST = 2**63 - 1

_Reads = Callable[[Any], Any] | None


def _lenient(read: _Reads) -> _Reads:
    """Read a value that is damaged as None, so that the other rows of a result can be read."""
    if read is None:
        return None

    def lenient(value: Any) -> Any:
        try:
            return read(value)
        except (ValueError, TypeError, OverflowError):
            return None

    return lenient


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its time zone; SQLite keeps none, so what comes back is told to be UTC.

    One beyond what databases take is kept as the nearest that they take; one that is damaged on disk is read as None.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        try:
            return min(max(value.astimezone(UTC), _EARLIEST), _LATEST)
        except OverflowError:
            return _EARLIEST if value.year == 1 else _LATEST

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> _Reads:
        """See `TypeEngine`."""
        return _lenient(super().result_processor(dialect, coltype))


class FreeText(TypeDecorator[str]):
    """A text that may quote strangers: kept up to `bounds.RECORDED_TEXT` characters, with none that does harm."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else printable(value, bounds.RECORDED_TEXT)


class ByteCount(TypeDecorator[int]):
    """A number of bytes; one that is too large for a column is kept as the largest that is not."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return None if value is None else min(value, _LARGEST)


class Document(TypeDecorator[Any]):
    """A JSON document; none is NULL, and so is read one that is damaged on disk."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> _Reads:
        """See `TypeEngine`."""
        return _lenient(super().result_processor(dialect, coltype))


Identifier = BigInteger().with_variant(Integer(), "sqlite")
"""A row's number; only of this type does SQLite count on by itself."""


def partial_index(condition: str) -> dict[str, Any]:
    """What makes an index one of the rows that meet a condition only."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
