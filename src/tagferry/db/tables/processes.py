"""The processes of the database."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import UtcDateTime
from tagferry.db.tables.base import Base


class ProcessRow(Base):
    """A process that works on the database; deleted when it ends. `seen_at` is the database's time if it is shared.

    A request to reload the configuration is written to `reload_requested`; the process writes its id to
    `reload_answered` when it has done so, and the result to `reload_answer`.

    Whether a process still runs its jobs does not depend on this row, but on its lock as a worker.
    """

    __tablename__ = "processes"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    version: Mapped[str] = mapped_column(String(64))
    regions: Mapped[list[str]] = mapped_column(JSON)
    slots: Mapped[int] = mapped_column(Integer)
    running: Mapped[int] = mapped_column(Integer)
    is_leader: Mapped[bool]
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    configured: Mapped[list[Any] | None] = mapped_column(JSON)
    reload_requested: Mapped[str | None] = mapped_column(String(32))
    reload_answered: Mapped[str | None] = mapped_column(String(32))
    reload_answer: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    key_ids: Mapped[list[str] | None] = mapped_column(JSON)
