"""The last recorded time."""

from datetime import datetime

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import UtcDateTime
from tagferry.db.tables.base import Base


class ClockRow(Base):
    """The last time that was plausible; the table has one row."""

    __tablename__ = "clock"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
