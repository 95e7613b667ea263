"""Column types and index options that behave alike on all databases."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Integer, Text, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from tagferry import bounds
from tagferry.printable import printable

_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Within this range a time has a date in every time zone."""
_LARGEST = 2**63 - 1

_Reads = Callable[[Any], Any] | None


def _lenient(read: _Reads) -> _Reads:
    """Read a damaged value as None, so that the other rows of a result can be read."""
    if read is None:
        return None

    def lenient(value: Any) -> Any:
        try:
            return read(value)
        except (ValueError, TypeError, OverflowError):
            return None

    return lenient


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its time zone; SQLite stores none, so values are stored and read as UTC.

    A time outside the range of databases is clamped; a value that is damaged on disk is read as None.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else self.clamped(value)

    @staticmethod
    def clamped(value: datetime) -> datetime:
        """Return a time as it is stored, in UTC."""
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
        """Override `TypeEngine.result_processor`."""
        return _lenient(super().result_processor(dialect, coltype))


class FreeText(TypeDecorator[str]):
    """A text that may contain untrusted input: sanitized, and truncated to `bounds.RECORDED_TEXT` characters."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return free_text(value)


def free_text(value: str | None) -> str | None:
    """Return a text as `FreeText` stores it."""
    return None if value is None else printable(value, bounds.RECORDED_TEXT)


class ByteCount(TypeDecorator[int]):
    """A number of bytes, clamped to the largest that a column can store."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return None if value is None else self.clamped(value)

    @staticmethod
    def clamped(value: int) -> int:
        """Return a number as it is stored."""
        return min(value, _LARGEST)


class Document(TypeDecorator[Any]):
    """A JSON document; None is stored as NULL, and a document that is damaged on disk is read as None."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> _Reads:
        """Override `TypeEngine.result_processor`."""
        return _lenient(super().result_processor(dialect, coltype))


Identifier = BigInteger().with_variant(Integer(), "sqlite")
"""A row's id; SQLite generates ids only for this type."""


def partial_index(condition: str) -> dict[str, Any]:
    """Return the options of an index that covers only the rows that meet a condition."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
