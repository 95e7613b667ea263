"""Audit records."""

from datetime import datetime

from sqlalchemy import Index, Integer, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import FreeText, Identifier, UtcDateTime, partial_index
from tagferry.db.tables.base import Base


def _index(name: str, *columns: str) -> Index:
    """Return an index for a filter of the list, which is sorted by time."""
    return Index(f"ix_audit_records_{name}", *columns, "occurred_at", "id")


class AuditRecordRow(Base):
    """A request that may have changed something, or that was refused.

    Values that a request does not have are NULL. `user_name` is the caller's name; `subject_user` and `subject_key` are
    the user and the access key that the request is about. `repository` includes the organization.
    """

    __tablename__ = "audit_records"
    __table_args__ = (
        _index("time"),
        _index("user", "user_name"),
        _index("organization", "organization"),
        _index("repository", "repository"),
        _index("method", "method"),
        _index("operation", "operation"),
        Index("ix_audit_records_refused", "occurred_at", "id", **partial_index("is_refused")),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    user_name: Mapped[str | None] = mapped_column(String(64))
    access_key: Mapped[str | None] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(32))
    operation: Mapped[str | None] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(FreeText)
    status: Mapped[int] = mapped_column(SmallInteger)
    is_refused: Mapped[bool]
    region: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(32))
    organization: Mapped[str | None] = mapped_column(String(64))
    repository: Mapped[str | None] = mapped_column(String(255))
    subject_user: Mapped[str | None] = mapped_column(String(64))
    subject_key: Mapped[str | None] = mapped_column(String(64))
    times: Mapped[int] = mapped_column(Integer)
