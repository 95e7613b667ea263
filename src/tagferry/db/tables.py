"""The tables: accounts, organizations, retention, sync jobs, and what was learned about registries.

Images are not here: the registries are the truth about them, and what was learned only saves questions and bytes.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tagferry.db.columns import Identifier, UtcDateTime, rows_where

_WHERE_OPEN = rows_where("status IN ('waiting', 'running')")


class Base(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class DomainRow(Base):
    """An account that users belong to."""

    __tablename__ = "domains"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)


class UserRow(Base):
    """A user; the password is kept as an argon2 hash. One that is not enabled is let in nowhere."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id"))
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    is_admin: Mapped[bool]
    enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    description: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AccessKeyRow(Base):
    """An access key; its secret is encrypted, since verifying an HMAC needs it back.

    One that is not enabled lets nobody in. `last_used_at` may be some minutes behind.
    """

    __tablename__ = "access_keys"

    access_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    secret_encrypted: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(String(255))
    enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TokenRow(Base):
    """An IAM token, kept as its hash only.

    `access_key` is the permanent access key that it was got by, with which it ends; `project` the region whose
    project it is for.
    """

    __tablename__ = "tokens"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    method: Mapped[str] = mapped_column(String(16), default="password", server_default="password")
    access_key: Mapped[str | None] = mapped_column(String(64))
    project: Mapped[str | None] = mapped_column(String(64))
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class OrganizationRow(Base):
    """An organization (SWR: namespace) of a region."""

    __tablename__ = "organizations"
    __table_args__ = (UniqueConstraint("region", "name", name="uq_organizations_region_name"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    region: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(64))
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id"))
    creator_id: Mapped[str] = mapped_column(String(32))
    creator_name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OrganizationPermissionRow(Base):
    """What a user may do in an organization: 1 read, 3 edit, 7 manage."""

    __tablename__ = "organization_permissions"

    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    auth: Mapped[int]


class RepositoryRow(Base):
    """What is said of a repository besides its images, which its region's registry has; it may have none yet.

    Its organization is named where tagferry manages it, so that it ends with it.
    """

    __tablename__ = "repositories"
    __table_args__ = (UniqueConstraint("region", "namespace", "name", name="uq_repositories_place"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    region: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(128))
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)
    category: Mapped[str] = mapped_column(String(32))
    description: Mapped[str] = mapped_column(Text)
    is_public: Mapped[bool]
    creator_id: Mapped[str] = mapped_column(String(32))
    creator_name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RepositoryPermissionRow(Base):
    """What a user may do in a repository, besides what the organization lets the user do: 1 read, 3 edit, 7 manage."""

    __tablename__ = "repository_permissions"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    auth: Mapped[int]


class RepositoryShareRow(Base):
    """A domain whose users may read a repository, until `deadline` if there is one."""

    __tablename__ = "repository_shares"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    domain_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    deadline: Mapped[datetime | None] = mapped_column(UtcDateTime)
    creator_id: Mapped[str] = mapped_column(String(32))
    creator_name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RetentionPolicyRow(Base):
    """Which tags of a repository are deleted by themselves: SWR's rules as they are sent.

    `ran_at` is when the policy, as it stands, was last carried out. No number of one is given again, since what it
    deleted is told by that.
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
    """What a policy knows of a tag that stands in its repository, as long as it points to this digest.

    `pushed_at` is when it was first seen to do so where the registry does not tell when it was pushed.
    """

    __tablename__ = "retention_tags"

    policy_id: Mapped[int] = mapped_column(ForeignKey("retention_policies.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str] = mapped_column(String(140))
    pushed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    built_at: Mapped[datetime] = mapped_column(UtcDateTime)
    is_attachment: Mapped[bool]


class RetentionDeletionRow(Base):
    """A tag that a policy deleted, by a rule of this template; the policy may have ended since."""

    __tablename__ = "retention_deletions"
    __table_args__ = (Index("ix_retention_deletions_repository_id", "repository_id", "id"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    policy_id: Mapped[int] = mapped_column(BigInteger)
    template: Mapped[str] = mapped_column(String(16))
    tag: Mapped[str] = mapped_column(String(128))
    digest: Mapped[str] = mapped_column(String(140))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class SyncJobRow(Base):
    """One tag's copy to one target: its record, and its place in the queue.

    Where it has not ended, `priority` and `turn` say when it is next, `after_id` names the job on the same way that it
    has to wait for, and `worker_id` who runs it.
    """

    __tablename__ = "sync_jobs"
    __table_args__ = (
        Index("ix_sync_jobs_repository", "source_region", "namespace", "repository", "id"),
        Index("ix_sync_jobs_queue", "status", "priority", "turn", "id"),
        Index("ix_sync_jobs_operator", "operator_id", **_WHERE_OPEN),
        Index(
            "ix_sync_jobs_way",
            "source_region",
            "namespace",
            "repository",
            "tag",
            "target_region",
            "target_namespace",
            **_WHERE_OPEN,
        ),
        Index("ix_sync_jobs_after_id", "after_id", **rows_where("after_id IS NOT NULL")),
        Index("ix_sync_jobs_ended_at", "ended_at"),
        Index("ix_sync_jobs_target", "target_region", "target_namespace", "repository", "tag", "id"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    request_id: Mapped[str] = mapped_column(String(64), index=True)
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
    override: Mapped[bool]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    digest: Mapped[str | None] = mapped_column(String(140))
    bytes_total: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_done: Mapped[int] = mapped_column(BigInteger, default=0)
    rewritten: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    priority: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    turn: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    after_id: Mapped[int | None] = mapped_column(BigInteger)
    worker_id: Mapped[int | None] = mapped_column(BigInteger)
    starts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deadline_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class WorkerRow(Base):
    """A process that runs jobs, for as long as it may hold some."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SyncRuleRow(Base):
    """A repository's standing order to another place: what is pushed here is synchronized there.

    Its organizations are named where tagferry manages them, so that it ends with them. `arrival_id` is the last sync
    job that had brought something to the source when the rule was last switched on.
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
    arrival_id: Mapped[int] = mapped_column(BigInteger)


class SyncRuleTagRow(Base):
    """What a rule has done about a tag.

    `digest` is the one that was handled last, none after the tag was deleted; `arrival_id` is the last sync job that
    had brought the tag to the source by then, and `came_through` the places that its content had passed, the nearest
    first.
    """

    __tablename__ = "sync_rule_tags"

    rule_id: Mapped[int] = mapped_column(ForeignKey("sync_rules.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str | None] = mapped_column(String(140))
    arrival_id: Mapped[int] = mapped_column(BigInteger)
    came_through: Mapped[list[str]] = mapped_column(JSON)


class BlobLocationRow(Base):
    """A repository that was seen to hold a blob; the registry is told by its address, whatever a region is called."""

    __tablename__ = "blob_locations"
    __table_args__ = (UniqueConstraint("address", "digest", "repository", name="uq_blob_locations_place"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    address: Mapped[str] = mapped_column(String(512))
    digest: Mapped[str] = mapped_column(String(140))
    repository: Mapped[str] = mapped_column(String(255))
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class RegistryCapabilitiesRow(Base):
    """What the registry at an address has shown that it can do, as a JSON object."""

    __tablename__ = "registry_capabilities"

    address: Mapped[str] = mapped_column(String(512), primary_key=True)
    learned_at: Mapped[datetime] = mapped_column(UtcDateTime)
    document: Mapped[str] = mapped_column(Text)


class BlobUploadRow(Base):
    """An upload session at the registry at an address, with a part of a blob for a repository.

    Attributes:
        location: where the session is; it may hold a secret of the registry, and is never logged.
    """

    __tablename__ = "blob_uploads"

    address: Mapped[str] = mapped_column(String(512), primary_key=True)
    repository: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(140), primary_key=True)
    location: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class TriggerRow(Base):
    """What is to be called when tags of a repository change; all but `enabled` stays as it was made."""

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
    """The digest that a tag pointed to when a trigger that is switched on last heard of it."""

    __tablename__ = "trigger_tags"

    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str] = mapped_column(String(140))


class DeliveryRow(Base):
    """A call that a trigger makes because of a tag, and what became of it.

    `status` is `waiting`, `success` or `failed`. What is waiting is due at `due_at`, and later than that where somebody
    is at it.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_trigger", "trigger_id", "id"),
        Index("ix_deliveries_due", "due_at", "id", **rows_where("status = 'waiting'")),
        Index("ix_deliveries_ended_at", "ended_at"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(String(32))
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    tag: Mapped[str] = mapped_column(String(128))
    digest: Mapped[str] = mapped_column(String(140))
    pushed_by: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    detail: Mapped[str] = mapped_column(Text)
