"""Organizations, repositories and their permissions. Images are stored in the registries."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import Identifier, UtcDateTime
from tagferry.db.tables.base import Base


class OrganizationRow(Base):
    """An organization (SWR: namespace) of a region.

    A limit is empty if the configured limit applies, and -1 if there is none.
    """

    __tablename__ = "organizations"
    __table_args__ = (UniqueConstraint("region", "name", name="uq_organizations_region_name"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    region: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(64))
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id"))
    creator_id: Mapped[str] = mapped_column(String(32))
    creator_name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    byte_limit: Mapped[int | None] = mapped_column(BigInteger)
    repository_limit: Mapped[int | None] = mapped_column(BigInteger)
    upload_limit: Mapped[int | None] = mapped_column(BigInteger)


class OrganizationNumberRow(Base):
    """Generates the ids of organizations; SQLite would reuse the id of a deleted last row.

    A row is deleted once its id has been assigned.
    """

    __tablename__ = "organization_numbers"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)


class OrganizationPermissionRow(Base):
    """A user's permission in an organization: 1 read, 3 edit, 7 manage; `position` counts the order of granting."""

    __tablename__ = "organization_permissions"

    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    permission: Mapped[int]
    position: Mapped[int] = mapped_column(default=0, server_default=text("0"))


class RepositoryRow(Base):
    """The metadata of a repository, whose images are in its region's registry; it may have no image yet.

    `organization_id` is set if tagferry manages the organization, so that the row is deleted with it.
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
    """A user's permission in a repository, in addition to the organization's: 1 read, 3 edit, 7 manage.

    `position` counts the order of granting.
    """

    __tablename__ = "repository_permissions"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    permission: Mapped[int]
    position: Mapped[int] = mapped_column(default=0, server_default=text("0"))


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


class RepositoryDownloadsRow(Base):
    """The number of image downloads of a repository, which needs no metadata row."""

    __tablename__ = "repository_downloads"

    region: Mapped[str] = mapped_column(String(64), primary_key=True)
    namespace: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    downloads: Mapped[int] = mapped_column(BigInteger)
