"""The number that changes with everything that requests look up."""

from sqlalchemy import BigInteger, Integer
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.tables.base import Base


class GenerationRow(Base):
    """The generation: a random number that database triggers replace; the table has one row."""

    __tablename__ = "generation"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(BigInteger)
