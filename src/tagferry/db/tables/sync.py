"""Sync jobs, workers and sync rules."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, SmallInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import ByteCount, Document, FreeText, Identifier, UtcDateTime, partial_index
from tagferry.db.tables.base import Base

_WHERE_OPEN = partial_index("status IN ('waiting', 'running')")


class SyncJobRow(Base):
    """The copy of one tag to one target: its record and its queue entry.

    While the job is open, `priority` and `fair_position` determine its order, `blocked_by` is the earlier job on the
    same route that it waits for, and `worker_id` the worker that runs it. `queued_behind` is the first job that it had
    to wait for, also after it has ended. `next_attempt_at` is set only while it waits
    for a retry; it is not queued then. `attempts` counts its starts, `failures` the last of them that failed because a
    registry was unavailable, and `lost_workers` the workers that were lost while they ran it. `search_error` is why the
    search for signatures and other referrers was incomplete, if a repeated search may succeed. `rule_id` is the
    rule that started it, which may have been deleted since; a user's retry keeps it. The ids of its organizations are
    empty if tagferry does not manage them, and after they, or the source repository, have been deleted: a job belongs
    to an organization, not to its name. `trace_context` is W3C's `traceparent` and `tracestate` of the request.
    """

    __tablename__ = "sync_jobs"
    __table_args__ = (
        Index(
            "ix_sync_jobs_source_organization_id",
            "source_organization_id",
            **partial_index("source_organization_id IS NOT NULL"),
        ),
        Index(
            "ix_sync_jobs_target_organization_id",
            "target_organization_id",
            **partial_index("target_organization_id IS NOT NULL"),
        ),
        # The organization is not searched for; with it, jobs are counted without reading their rows.
        Index("ix_sync_jobs_repository", "source_region", "namespace", "repository", "id", "source_organization_id"),
        Index(
            "ix_sync_jobs_repository_status",
            "source_region",
            "namespace",
            "repository",
            "status",
            "id",
            "source_organization_id",
        ),
        Index("ix_sync_jobs_region", "source_region", "id"),
        Index("ix_sync_jobs_region_status", "source_region", "status", "id"),
        Index("ix_sync_jobs_operator_id", "operator_id", "id"),
        Index("ix_sync_jobs_status", "status", "id"),
        Index("ix_sync_jobs_namespace", "namespace", "id"),
        Index("ix_sync_jobs_target_region", "target_region", "id"),
        Index(
            "ix_sync_jobs_queue",
            "status",
            "priority",
            "fair_position",
            "id",
            **partial_index("next_attempt_at IS NULL"),
        ),
        Index("ix_sync_jobs_next_attempt_at", "next_attempt_at", **partial_index("next_attempt_at IS NOT NULL")),
        Index("ix_sync_jobs_operator", "operator_id", "priority", **_WHERE_OPEN),
        Index(
            "ix_sync_jobs_route",
            "source_region",
            "namespace",
            "repository",
            "tag",
            "target_region",
            "target_namespace",
            **_WHERE_OPEN,
        ),
        Index("ix_sync_jobs_blocked_by", "blocked_by", **partial_index("blocked_by IS NOT NULL")),
        # The state is not searched for; with it, jobs are counted without reading their rows.
        Index("ix_sync_jobs_ended_at", "ended_at", "status"),
        Index(
            "ix_sync_jobs_search_error",
            "source_region",
            "namespace",
            "repository",
            "target_region",
            "target_namespace",
            "tag",
            **partial_index("search_error IS NOT NULL"),
        ),
        Index("ix_sync_jobs_digest", "digest", "id", **partial_index("digest IS NOT NULL")),
        Index("ix_sync_jobs_target", "target_region", "target_namespace", "repository", "tag", "status", "id"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    request_id: Mapped[str] = mapped_column(String(64), index=True)
    rule_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    domain_id: Mapped[str] = mapped_column(String(32))
    domain_name: Mapped[str] = mapped_column(String(64))
    operator_id: Mapped[str] = mapped_column(String(32))
    operator_name: Mapped[str] = mapped_column(String(64))
    source_region: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str] = mapped_column(String(64))
    repository: Mapped[str] = mapped_column(String(128))
    tag: Mapped[str] = mapped_column(String(128))
    target_region: Mapped[str] = mapped_column(String(64))
    target_namespace: Mapped[str] = mapped_column(String(64))
    source_organization_id: Mapped[int | None] = mapped_column(BigInteger)
    target_organization_id: Mapped[int | None] = mapped_column(BigInteger)
    override: Mapped[bool]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(FreeText, default="")
    digest: Mapped[str | None] = mapped_column(String(140))
    bytes_total: Mapped[int] = mapped_column(ByteCount, default=0)
    bytes_done: Mapped[int] = mapped_column(ByteCount, default=0)
    rewritten: Mapped[dict[str, Any] | None] = mapped_column(Document)
    search_error: Mapped[str | None] = mapped_column(FreeText)
    priority: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    fair_position: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    blocked_by: Mapped[int | None] = mapped_column(BigInteger)
    queued_behind: Mapped[int | None] = mapped_column(BigInteger)
    worker_id: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    lost_workers: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_error: Mapped[str | None] = mapped_column(FreeText)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deadline_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    trace_context: Mapped[str | None] = mapped_column(String(600))


class SyncJobAttemptRow(Base):
    """The steps of a job's attempt, apart from the job, so that lists of jobs stay fast.

    `events` is a list of steps in the order of time. Bytes are those that were really moved for uploaded blobs, and the
    sizes of the others.
    """

    __tablename__ = "sync_job_attempts"

    job_id: Mapped[int] = mapped_column(ForeignKey("sync_jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(FreeText)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    blobs_uploaded: Mapped[int] = mapped_column(Integer)
    bytes_uploaded: Mapped[int] = mapped_column(ByteCount)
    blobs_mounted: Mapped[int] = mapped_column(Integer)
    bytes_mounted: Mapped[int] = mapped_column(ByteCount)
    blobs_present: Mapped[int] = mapped_column(Integer)
    bytes_present: Mapped[int] = mapped_column(ByteCount)
    blobs_omitted: Mapped[int] = mapped_column(Integer)
    events: Mapped[list[Any] | None] = mapped_column(Document)


class WorkerRow(Base):
    """A process that runs jobs; deleted when it leaves or its jobs have been taken over."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SyncRuleRow(Base):
    """A rule that synchronizes the pushes of a repository to a target.

    The ids of its organizations are set if tagferry manages them, so that the rule is deleted with them.
    `latest_job_id` is the last sync job that had copied to the source when the rule was last enabled.
    """

    __tablename__ = "sync_rules"
    __table_args__ = (
        UniqueConstraint(
            "source_region",
            "namespace",
            "repository",
            "target_region",
            "target_namespace",
            name="uq_sync_rules_way",
        ),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    domain_id: Mapped[str] = mapped_column(String(32))
    domain_name: Mapped[str] = mapped_column(String(64))
    creator_id: Mapped[str] = mapped_column(String(32))
    source_region: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str] = mapped_column(String(64))
    repository: Mapped[str] = mapped_column(String(128))
    target_region: Mapped[str] = mapped_column(String(64))
    target_namespace: Mapped[str] = mapped_column(String(64))
    source_organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    target_organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    override: Mapped[bool]
    sync_auto: Mapped[bool]
    latest_job_id: Mapped[int] = mapped_column(BigInteger)


class SyncRuleTagRow(Base):
    """The state that a rule keeps of a tag.

    `digest` is the last one that was handled; None after the tag was deleted. `latest_job_id` is the last sync job that
    had copied the tag to the source by then, and `hops` lists the organizations that its content had passed,
    nearest first.
    """

    __tablename__ = "sync_rule_tags"

    rule_id: Mapped[int] = mapped_column(ForeignKey("sync_rules.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str | None] = mapped_column(String(140))
    latest_job_id: Mapped[int] = mapped_column(BigInteger)
    hops: Mapped[list[str]] = mapped_column(JSON)
