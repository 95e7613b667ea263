"""Write records in batches, and isolate those that the database refuses."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, SQLAlchemyError, StatementError

from tagferry.errors import Unavailable
from tagferry.metrics import RECORDS_REFUSED
from tagferry.printable import printable

Item = TypeVar("Item")

_REFUSING_STATES = ("22", "23", "54")
"""PostgreSQL's error classes for refused values: data, constraints and program limits."""
_REASON_LENGTH = 200


@dataclass(slots=True)
class Batch(Generic[Item]):
    """The result of writing records.

    Attributes:
        written: the records that were written.
        refused: the records that the database refused, with the reason.
        error: the transient error that kept the other records from being written, if any.
    """

    written: list[Item] = field(default_factory=list)
    refused: list[tuple[Item, str]] = field(default_factory=list)
    error: Exception | None = None


async def write_bisecting(
    items: Iterable[Item], write: Callable[[list[Item]], Awaitable[None]], *, kind: str
) -> Batch[Item]:
    """Write records in as few transactions as possible, and bisect batches that the database refuses.

    Args:
        items: the records.
        write: writes records in one transaction, or raises an exception and writes none.
        kind: the kind under which refused records are counted.
    """
    batch: Batch[Item] = Batch()
    await _write(list(items), write, batch)
    if batch.refused:
        RECORDS_REFUSED.labels(kind=kind).inc(len(batch.refused))
    return batch


def is_refusal(error: Exception) -> bool:
    """Return whether the database refuses the values, as opposed to a transient error."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return False
        state = getattr(error.orig, "sqlstate", None) or ""
        return isinstance(error, DataError | IntegrityError | NotSupportedError) or state[:2] in _REFUSING_STATES
    if isinstance(error, StatementError):
        return not isinstance(error.orig, OSError)
    # Any other error occurred while the record was prepared for the database.
    return not isinstance(error, SQLAlchemyError | OSError | Unavailable)


def error_summary(error: Exception) -> str:
    """Return why a statement failed, in one short line without its parameters."""
    cause: BaseException = (error.orig if isinstance(error, StatementError) else None) or error
    line = str(cause).partition("\n")[0]
    return printable(f"{type(cause).__name__}: {line}", _REASON_LENGTH)


async def _write(items: list[Item], write: Callable[[list[Item]], Awaitable[None]], batch: Batch[Item]) -> None:
    if not items:
        return
    try:
        await write(items)
    except Exception as error:
        if not is_refusal(error):
            batch.error = error
            return
        if len(items) == 1:
            batch.refused.append((items[0], error_summary(error)))
            return
    else:
        batch.written += items
        return
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        if batch.error is None:
            await _write(half, write, batch)
