"""Delete old rows in small batches, so that writers do not wait long."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import InstrumentedAttribute

from tagferry import bounds
from tagferry.db.engine import Database

_DELETED_PER_TRANSACTION = 500


async def prune(
    database: Database, moment: InstrumentedAttribute[Any], before: datetime, *, only: ColumnElement[bool] | None = None
) -> int:
    """Delete the rows whose time in this column is before the limit, in short transactions; returns how many.

    One call deletes at most about `bounds.RECORDS_PRUNED` rows.

    Args:
        database: has the rows.
        moment: the column.
        before: the limit.
        only: a further condition on the rows.
    """
    row = moment.class_
    chosen = select(row.id).where(moment < before)
    if only is not None:
        chosen = chosen.where(only)
    old = delete(row).where(row.id.in_(chosen.limit(_DELETED_PER_TRANSACTION)))
    pruned = 0
    while True:
        async with database.write() as session:
            deleted = await session.execute(old)
        count: int = deleted.rowcount  # type: ignore[attr-defined]
        pruned += count
        if count < _DELETED_PER_TRANSACTION or pruned >= bounds.RECORDS_PRUNED:
            return pruned
