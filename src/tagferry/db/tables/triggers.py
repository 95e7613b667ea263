"""Triggers and their webhook deliveries."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import FreeText, Identifier, UtcDateTime, partial_index
from tagferry.db.tables.base import Base


class TriggerRow(Base):
    """A webhook trigger for changes of a repository's tags; only `enabled` can be changed."""

    __tablename__ = "triggers"
    __table_args__ = (UniqueConstraint("repository_id", "name", name="uq_triggers_name"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    enabled: Mapped[bool]
    action: Mapped[str] = mapped_column(String(16))
    trigger_type: Mapped[str] = mapped_column(String(16))
    condition: Mapped[str] = mapped_column(Text)
    trigger_mode: Mapped[str] = mapped_column(String(16))
    cluster_id: Mapped[str] = mapped_column(String(128))
    cluster_name: Mapped[str] = mapped_column(String(128))
    cluster_ns: Mapped[str] = mapped_column(String(63))
    app_type: Mapped[str] = mapped_column(String(16))
    application: Mapped[str] = mapped_column(String(253))
    container: Mapped[str] = mapped_column(String(253))
    creator_id: Mapped[str] = mapped_column(String(32))
    creator_name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class TriggerTagRow(Base):
    """The digest of a tag that an enabled trigger was last notified of."""

    __tablename__ = "trigger_tags"

    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str] = mapped_column(String(140))


class DeliveryRow(Base):
    """A webhook delivery for a tag, and its result.

    `event` is `tag` for a tag's new digest, and `test` for a test of the webhook. `status` is `waiting`, `success` or
    `failed`. A waiting delivery is due at `due_at`, which is postponed while a process works on it.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_trigger", "trigger_id", "id"),
        Index("ix_deliveries_due", "due_at", "id", **partial_index("status = 'waiting'")),
        Index("ix_deliveries_ended_at", "ended_at"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(16), default="tag", server_default="tag")
    event_id: Mapped[str] = mapped_column(String(32))
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    tag: Mapped[str] = mapped_column(String(128))
    digest: Mapped[str] = mapped_column(String(140))
    pushed_by: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    detail: Mapped[str] = mapped_column(FreeText)
