"""The number that changes with everything that requests look up."""

from sqlalchemy import BigInteger, Integer
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.tables.base import Base


class GenerationRow(Base):
    """The generation: a random number that database triggers replace; the table has one row.

    `transaction_id` is the transaction that replaced it, in PostgreSQL only.
    """

    __tablename__ = "generation"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(BigInteger)
    transaction_id: Mapped[int | None] = mapped_column(BigInteger)
