"""Rows as one JSON parameter, for statements that write many rows at once.

Executing a statement for each row, or binding a parameter for each column of each row, would take several times as long
as the writing itself. With one parameter, the text of the statement is the same for any number of rows, so it is
compiled and prepared once.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, FromClause, Text, bindparam, cast, column, func, literal_column
from sqlalchemy.engine import Dialect
from sqlalchemy.types import DateTime, TypeDecorator, TypeEngine

from tagferry.db.columns import ByteCount, Document, UtcDateTime

DIALECTS = ("sqlite", "postgresql")
"""The databases for which statements are built, since they read JSON by different functions."""


class _Rows(TypeDecorator[Sequence[Mapping[str, Any]]]):
    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Sequence[Mapping[str, Any]] | None, dialect: Dialect) -> Any:
        return [{name: _plain(one) for name, one in row.items()} for row in value or ()]


def json_rows(parameter: str, columns: Mapping[str, TypeEngine[Any]], *, dialect: str) -> Mapping[str, Any]:
    """Return the columns of rows that are given as one parameter; a statement that uses them reads from these rows.

    Values may be texts, numbers, times, documents and None. Texts of `FreeText` have to be clean (`free_text`).

    Args:
        parameter: the name of the parameter, a list of a dictionary for each row.
        columns: the names and types of the columns.
        dialect: the database, one of `DIALECTS`.
    """
    array = bindparam(parameter, type_=_Rows)
    if dialect == "sqlite":
        values = func.json_each(array).table_valued("value")
        # Times are stored as texts, and documents too.
        return {
            name: func.json_extract(values.c.value, _text(f"$.{name}"), type_=kind) for name, kind in columns.items()
        }
    given = (column(name, _transferred(kind)) for name, kind in columns.items())
    rows: FromClause = func.json_to_recordset(array).table_valued(*given).render_derived(with_types=True)
    return {name: _received(rows.c[name], kind) for name, kind in columns.items()}


def _text(constant: str) -> ColumnElement[str]:
    """Return a text as a part of the statement, which costs less than a parameter."""
    return literal_column(f"'{constant}'", Text())


def _plain(value: Any) -> Any:
    """Return a value as JSON; a document as a text, which may contain what PostgreSQL does not accept in texts."""
    if isinstance(value, datetime):
        return UtcDateTime.clamped(value).replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(value, dict | list):
        return json.dumps(value)
    return ByteCount.clamped(value) if isinstance(value, int) else value


def _transferred(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type by which PostgreSQL reads a value of JSON."""
    if isinstance(kind, UtcDateTime):
        return DateTime()
    return Text() if isinstance(kind, Document) else kind


def _received(read: ColumnElement[Any], kind: TypeEngine[Any]) -> ColumnElement[Any]:
    if isinstance(kind, UtcDateTime):
        return func.timezone(_text("UTC"), read, type_=kind)
    return cast(read, JSON) if isinstance(kind, Document) else read
