"""Queries whose results are remembered while the generation is the same."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Row, Select, Table
from sqlalchemy.sql import visitors

from tagferry import bounds
from tagferry.db.engine import Database
from tagferry.db.generation import COVERED, Reading

Value = TypeVar("Value")
Rows = Sequence[Row[*tuple[Any, ...]]]


def _size(value: object) -> int:
    return 0 if value is None else 1


class RememberedQuery(Generic[Value]):
    """A query whose results are remembered, each for its parameters, while the generation is the same.

    The generation is read at each call, before the rows. So a result is never older than the call: rows that another
    process changes between the two reads are remembered for a generation that has passed.

    Args:
        database: executes the query.
        statement: selects columns, with bound parameters, from tables that the generation covers.
        value: returns the value of the rows.
        size: returns the size of a value; 0 if it must not be remembered. By default, the size is 0 for None, and 1 for
            anything else.
        limit: the sum of the sizes that are remembered; values that were not used for the longest time are forgotten.
    """

    def __init__(
        self,
        database: Database,
        statement: Select[*tuple[Any, ...]],
        value: Callable[[Rows], Value],
        *,
        size: Callable[[Value], int] = _size,
        limit: int = bounds.REMEMBERED_RESULTS,
    ) -> None:
        _require_covered(statement)
        self._database = database
        self._statement = statement
        self._value = value
        self._limit = limit
        self._size = size
        self._used = 0
        self._entries: OrderedDict[tuple[Any, ...], tuple[Reading, Value, int]] = OrderedDict()

    async def get(self, parameters: Mapping[str, Any]) -> Value:
        """Return the value for these parameters, which always come in the same order."""
        generation = await self._database.generation.current()
        key = tuple(parameters.values())
        if generation is not None:
            found = self._entries.get(key)
            if found is not None and found[0] == generation:
                self._entries.move_to_end(key)
                return found[1]
        value = self._value(await self._database.rows(self._statement, parameters))
        if generation is not None:
            self._remember(key, generation, value)
        return value

    def _remember(self, key: tuple[Any, ...], generation: Reading, value: Value) -> None:
        size = self._size(value)
        if size:
            # A key may be longer than its value: the rows of many organizations may be none.
            size += sum(len(one) for one in key if isinstance(one, tuple))
        former = self._entries.pop(key, None)
        if former is not None:
            self._used -= former[2]
        if not 0 < size <= self._limit:
            return
        self._entries[key] = (generation, value, size)
        self._used += size
        while self._used > self._limit:
            _, (_, _, freed) = self._entries.popitem(last=False)
            self._used -= freed


def _require_covered(statement: Select[*tuple[Any, ...]]) -> None:
    """Check that every change of the tables and columns that a statement reads replaces the generation."""
    for element in visitors.iterate(statement):
        if isinstance(element, Table) and element.name not in COVERED:
            raise ValueError(f"the generation does not cover the table {element.name}")
        # Of an alias, the base columns are those of its table.
        for column in element.base_columns if isinstance(element, ColumnElement) else ():
            if isinstance(column, Column) and column.name in COVERED.get(column.table.name, ()):
                raise ValueError(f"the generation does not cover the column {column.table.name}.{column.name}")
