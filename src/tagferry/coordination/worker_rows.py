"""The records of workers."""

import os
import socket
from datetime import UTC, datetime

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.db.tables import WorkerRow


async def add_worker(session: AsyncSession) -> int:
    """Record this process as a worker; returns its id."""
    added = await session.execute(
        insert(WorkerRow).returning(WorkerRow.id),
        {"name": worker_name(), "started_at": datetime.now(UTC)},
    )
    worker_id: int = added.scalar_one()
    return worker_id


def worker_name() -> str:
    """Return the name of this process as a worker."""
    return f"{socket.gethostname()}:{os.getpid()}"
