"""Repositories shared with other domains, whose users may read them."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import and_, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.access import repositories_with_domains, today
from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.db.tables import (
    DomainRow,
    OrganizationPermissionRow,
    RepositoryPermissionRow,
    RepositoryRow,
    RepositoryShareRow,
)
from tagferry.errors import Conflict, NotFound
from tagferry.names import RegionId, RepositoryName


@dataclass(frozen=True, slots=True)
class Share:
    """A share of a repository with a domain, whose users may read it.

    Attributes:
        deadline: the last day, in UTC, on which the share is valid; None for no end.
    """

    domain_name: str
    description: str
    deadline: datetime | None
    creator_id: str
    creator_name: str
    created_at: datetime
    updated_at: datetime

    @property
    def is_expired(self) -> bool:
        """Return True after the last day of the share."""
        return _is_over(self.deadline)


@dataclass(frozen=True, slots=True, order=True)
class SharedRepository:
    """A repository that is or was shared.

    Attributes:
        domain_name: the domain that owns it; empty if its organization exists only in an open region's registry.
        is_over: whether the share with the caller's domain has expired; always false for shares given by the caller.
    """

    name: RepositoryName
    domain_name: str
    is_expired: bool


class Shares:
    """Stores shares of repositories, which are identified by the ids of their rows.

    Args:
        database: stores the shares.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_of(self, repository: int) -> list[Share]:
        """Return the shares of a repository, expired ones too, by domain name."""
        async with self._database.read() as session:
            rows = await session.scalars(
                select(RepositoryShareRow)
                .where(RepositoryShareRow.repository_id == repository)
                .order_by(RepositoryShareRow.domain_name)
            )
            return [_share(row) for row in rows]

    async def create(
        self, caller: Caller, repository: int, domain_name: str, *, deadline: datetime | None, description: str
    ) -> None:
        """Share a repository with a domain; raises NotFound for the domain, and Conflict if it is shared already."""
        now = datetime.now(UTC)
        try:
            async with self._database.write() as session:
                if await session.scalar(select(DomainRow.id).where(DomainRow.name == domain_name)) is None:
                    raise NotFound("access domain", domain_name)
                session.add(
                    RepositoryShareRow(
                        repository_id=repository,
                        domain_name=domain_name,
                        description=description,
                        deadline=deadline,
                        creator_id=caller.user_id,
                        creator_name=caller.name,
                        created_at=now,
                        updated_at=now,
                    )
                )
                await session.flush()
        except IntegrityError:
            raise Conflict(
                "share", f'the repository is already shared with "{domain_name}"; update that share'
            ) from None

    async def update(
        self, repository: int, domain_name: str, *, deadline: datetime | None, description: str | None
    ) -> None:
        """Change a share's deadline, and its description unless None; raises NotFound."""
        async with self._database.write() as session:
            row = await _row(session, repository, domain_name)
            row.deadline = deadline
            row.description = row.description if description is None else description
            row.updated_at = datetime.now(UTC)

    async def delete(self, repository: int, domain_name: str) -> None:
        """Delete a share; raises NotFound."""
        async with self._database.write() as session:
            row = await _row(session, repository, domain_name)
            await session.delete(row)

    async def received(self, caller: Caller, region: RegionId) -> list[SharedRepository]:
        """Return the repositories of a region that are or were shared with the caller's domain, by full name."""
        with_us = and_(
            RepositoryShareRow.repository_id == RepositoryRow.id, RepositoryShareRow.domain_name == caller.domain_name
        )
        chosen = (
            repositories_with_domains(region).join(RepositoryShareRow, with_us).add_columns(RepositoryShareRow.deadline)
        )
        async with self._database.read() as session:
            rows = await session.execute(chosen)
            return sorted(_shared(*row) for row in rows)

    async def given(self, caller: Caller, region: RegionId) -> list[SharedRepository]:
        """Return the repositories of a region that are or were shared, and in which the caller has a permission."""
        chosen = repositories_with_domains(region).where(RepositoryRow.id.in_(select(RepositoryShareRow.repository_id)))
        if not caller.is_admin:
            organizations = select(OrganizationPermissionRow.organization_id).where(
                OrganizationPermissionRow.user_id == caller.user_id
            )
            repositories = select(RepositoryPermissionRow.repository_id).where(
                RepositoryPermissionRow.user_id == caller.user_id
            )
            chosen = chosen.where(
                or_(RepositoryRow.organization_id.in_(organizations), RepositoryRow.id.in_(repositories))
            )
        async with self._database.read() as session:
            rows = await session.execute(chosen)
            return sorted(_shared(*row) for row in rows)


def _shared(namespace: str, name: str, domain: str | None, deadline: datetime | None = None) -> SharedRepository:
    return SharedRepository(
        name=RepositoryName(f"{namespace}/{name}"), domain_name=domain or "", is_expired=_is_over(deadline)
    )


def _is_over(deadline: datetime | None) -> bool:
    return deadline is not None and deadline < today()


async def _row(session: AsyncSession, repository: int, domain_name: str) -> RepositoryShareRow:
    row = await session.get(RepositoryShareRow, (repository, domain_name))
    if row is None:
        raise NotFound("share", "", where=f'with "{domain_name}"')
    return row


def _share(row: RepositoryShareRow) -> Share:
    return Share(
        domain_name=row.domain_name,
        description=row.description,
        deadline=row.deadline,
        creator_id=row.creator_id,
        creator_name=row.creator_name,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
