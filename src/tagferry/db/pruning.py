"""Old rows are deleted a few at a time, so that nobody who writes something waits for long."""

from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import InstrumentedAttribute

from tagferry import bounds
from tagferry.db.engine import Database

_DELETED_AT_ONCE = 500


async def prune(database: Database, moment: InstrumentedAttribute[Any], before: datetime) -> int:
    """Delete rows of which this column tells a moment before that, in short transactions; returns how many.

    More than `bounds.RECORDS_PRUNED` of them are left to the next call.
    """
    row = moment.class_
    old = delete(row).where(row.id.in_(select(row.id).where(moment < before).limit(_DELETED_AT_ONCE)))
    pruned = 0
    while True:
        async with database.write() as session:
            deleted = await session.execute(old)
        count: int = deleted.rowcount  # type: ignore[attr-defined]
        pruned += count
        if count < _DELETED_AT_ONCE or pruned >= bounds.RECORDS_PRUNED:
            return pruned
