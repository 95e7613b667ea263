"""Retention policies and the tags they have deleted."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import Identifier, UtcDateTime
from tagferry.db.tables.base import Base


class RetentionPolicyRow(Base):
    """The retention policy of a repository, with SWR's rules as they were sent.

    `ran_at` is when the current rules last ran. Ids are never reused, since they identify the policy of a deletion.
    """

    __tablename__ = "retention_policies"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), unique=True)
    rules: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ran_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RetentionTagRow(Base):
    """The state that a policy keeps of a tag while the tag points to this digest.

    `pushed_at` is when this was first observed, if the registry does not report the time of the push.
    """

    __tablename__ = "retention_tags"

    policy_id: Mapped[int] = mapped_column(ForeignKey("retention_policies.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str] = mapped_column(String(140))
    pushed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    built_at: Mapped[datetime] = mapped_column(UtcDateTime)
    is_attached_artifact: Mapped[bool]


class RetentionDeletionRow(Base):
    """A tag that a policy deleted by a rule of this template; the policy may have been deleted since."""

    __tablename__ = "retention_deletions"
    __table_args__ = (Index("ix_retention_deletions_repository_id", "repository_id", "id"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    policy_id: Mapped[int] = mapped_column(BigInteger)
    template: Mapped[str] = mapped_column(String(16))
    tag: Mapped[str] = mapped_column(String(128))
    digest: Mapped[str] = mapped_column(String(140))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
