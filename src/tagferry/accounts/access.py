"""Authorization in repositories and organizations, for every API."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Boolean, ColumnElement, Select, String, and_, bindparam, literal, or_, select

from tagferry import bounds
from tagferry.accounts.model import Caller, Organization, Permission
from tagferry.accounts.organizations import held_by, organization_of
from tagferry.accounts.readable import ReadableRepositories
from tagferry.accounts.writable import WRITABLE, WritableRepositories, writable_of
from tagferry.db.engine import Database
from tagferry.db.remembered import RememberedQuery, Rows
from tagferry.db.tables import (
    DomainRow,
    OrganizationPermissionRow,
    OrganizationRow,
    RepositoryPermissionRow,
    RepositoryRow,
    RepositoryShareRow,
)
from tagferry.errors import Denied, NotFound, Unauthenticated
from tagferry.names import Namespace, RegionId, RepositoryName


@dataclass(frozen=True, slots=True)
class Owner:
    """The organization that owns a repository."""

    id: int
    domain_id: str
    creator_id: str
    creator_name: str


@dataclass(frozen=True, slots=True)
class Access:
    """A caller's access to a repository.

    Attributes:
        owner: the organization; None if it exists only in an open region's registry.
        permission: the highest permission of the caller.
        is_guest: whether the caller may read only because the repository is public or shared with the caller's domain.
            Guests do not see what others do with the repository.
    """

    owner: Owner | None
    permission: Permission
    is_guest: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """The records that decide about a repository and a caller.

    Attributes:
        owner: the organization, if it is recorded.
        held: the higher one of the caller's permissions in the organization and in the repository; 0 for none.
        is_public: None if the repository is not recorded.
        is_shared: whether it is shared with the caller's domain.
        is_granted: whether the caller may do anything. Refusals are not remembered: their number has no limit.
    """

    owner: Owner | None
    held: int
    is_public: bool | None
    is_shared: bool
    is_granted: bool

    @property
    def is_known(self) -> bool:
        """True if the organization or the repository is recorded."""
        return self.owner is not None or self.is_public is not None


class AccessControl:
    """Decides what callers may do in repositories and organizations.

    A caller's permission in a repository is the higher one of its permissions in the organization and in the
    repository. Anyone may read public repositories, and users may read those shared with their domain.
    Administrators may do everything.

    Args:
        database: stores the permissions.
        open_regions: regions whose registry manages its own organizations. Administrators may use all of these; others
            may use those that an administrator has recorded here and granted to them.
    """

    def __init__(self, database: Database, *, open_regions: frozenset[RegionId] = frozenset()) -> None:
        self._database = database
        self.open_regions = open_regions
        self._decisions = RememberedQuery(database, _DECISION, _decided, size=lambda found: int(found.is_granted))
        self._organizations = RememberedQuery(database, _ORGANIZATION, _first)
        self._readable_organizations = RememberedQuery(
            database,
            _READABLE_ORGANIZATIONS,
            lambda rows: {row.name: row.domain for row in rows},
            size=lambda found: 1 + len(found),
            limit=bounds.REMEMBERED_NAMES,
        )
        self._readable_repositories = RememberedQuery(
            database,
            _READABLE_REPOSITORIES,
            lambda rows: {f"{namespace}/{name}": domain or "" for namespace, name, domain in rows},
            size=lambda found: 1 + len(found),
            limit=bounds.REMEMBERED_NAMES,
        )
        self._writable = RememberedQuery(
            database, WRITABLE, writable_of, size=lambda found: 1 + len(found), limit=bounds.REMEMBERED_NAMES
        )

    def pinned(self) -> AbstractContextManager[None]:
        """Check only once within the context, for this task, that what is remembered is still valid.

        Authentication and the authorization that follows at once can share the check.
        """
        return self._database.generation.pinned()

    async def require(
        self, caller: Caller | None, region: RegionId, name: RepositoryName, permission: Permission
    ) -> Access:
        """Require a permission in a repository, which need not exist.

        Args:
            caller: None for an anonymous caller.
            region: the region of the repository.
            name: its name.
            permission: the required permission.

        Raises:
            Unauthenticated: the operation requires authentication.
            NotFound: the organization does not exist.
            Denied: the caller lacks the permission.
        """
        if caller is None and permission > Permission.READ:
            raise Unauthenticated(_LOGIN)
        namespace, repository = name.unchecked_namespace, name.unchecked_repository
        found = await self._decisions.get(
            {
                "region": region,
                "namespace": namespace,
                "repository": repository,
                "user_id": caller.user_id if caller else "",
                "domain_name": caller.domain_name if caller else "",
                "is_admin": caller is not None and caller.is_admin,
                "today": today(),
            }
        )
        if caller is None:
            if not found.is_public:
                raise Unauthenticated(_LOGIN)
            return Access(found.owner, Permission.READ, is_guest=True)
        if not found.is_known and not self.has_unrecorded_organizations(caller, region):
            raise self._unknown(region, namespace)
        if caller.is_admin:
            return Access(found.owner, Permission.MANAGE, is_guest=False)
        if found.held >= permission:
            return Access(found.owner, Permission(found.held), is_guest=False)
        if permission is Permission.READ and (found.is_public or found.is_shared):
            return Access(found.owner, Permission.READ, is_guest=True)
        raise Denied(
            f'user "{caller.name}" needs the permission to {permission.name.lower()} in the organization "{namespace}" '
            f'of {region}, or in its repository "{repository}"'
        )

    async def require_organization(
        self, caller: Caller, region: RegionId, name: Namespace, permission: Permission
    ) -> Organization | None:
        """Require a permission in an organization.

        Returns:
            The organization; None if it exists only in an open region's registry and the caller is an administrator.

        Raises:
            NotFound: the organization does not exist.
            Denied: the caller lacks the permission.
        """
        found = await self._organizations.get({"region": region, "namespace": name, "user_id": caller.user_id})
        if found is None:
            if self.has_unrecorded_organizations(caller, region):
                return None
            raise self._unknown(region, name)
        held = held_by(caller, found.held)
        if held is None or held < permission:
            raise Denied(
                f'user "{caller.name}" needs the permission to {permission.name.lower()} in the organization "{name}" '
                f"of {region}"
            )
        return organization_of(found, held)

    def require_creation(self, caller: Caller, region: RegionId, name: Namespace) -> None:
        """Require the permission to record an organization.

        Raises:
            Denied: the region's registry manages its organizations. Recording an existing one would give the caller
                full access to its images.
        """
        if not self.may_create(caller, region):
            raise Denied(f"the registry of {region} governs its organizations; {_TAKE_IN.format(region, name)}")

    def may_create(self, caller: Caller, region: RegionId) -> bool:
        """Return whether a caller may record an organization in a region."""
        return caller.is_admin or not self.is_open(region)

    def is_open(self, region: RegionId) -> bool:
        """Return whether the region's registry manages its own organizations."""
        return region in self.open_regions

    def has_unrecorded_organizations(self, caller: Caller, region: RegionId) -> bool:
        """Return whether this caller may use organizations that are not recorded here."""
        return caller.is_admin and self.is_open(region)

    def _unknown(self, region: RegionId, namespace: str) -> NotFound:
        """Return the error for an organization that is not recorded, with a hint."""
        hint = "create it first, or check its name"
        if self.is_open(region):
            hint = f"if the region's registry has it, {_TAKE_IN.format(region, namespace)}"
        return NotFound("organization", namespace, hint, where=f"in {region}")

    async def readable(self, caller: Caller, region: RegionId) -> ReadableRepositories:
        """Return what the caller may read in a region."""
        mine = {"region": region, "user_id": caller.user_id, "is_admin": caller.is_admin}
        organizations = await self._readable_organizations.get(mine)
        repositories = await self._readable_repositories.get(
            mine | {"domain_name": caller.domain_name, "today": today()}
        )
        return ReadableRepositories(
            organizations=organizations,
            repositories=repositories,
            is_everything=self.has_unrecorded_organizations(caller, region),
        )

    async def writable(self, caller: Caller) -> WritableRepositories:
        """Return what the caller may push to, in all regions."""
        found = await self._writable.get({"user_id": caller.user_id, "is_admin": caller.is_admin})
        return replace(found, open_regions=self.open_regions if caller.is_admin else frozenset())


def repositories_with_domains(region: RegionId | BindParameter[str]) -> Select[str, str, str | None]:
    """Select the recorded repositories of a region: organization, name, and owning domain."""
    return (
        select(RepositoryRow.namespace, RepositoryRow.name, DomainRow.name)
        .outerjoin(OrganizationRow, OrganizationRow.id == RepositoryRow.organization_id)
        .outerjoin(DomainRow, DomainRow.id == OrganizationRow.domain_id)
        .where(RepositoryRow.region == region)
    )


def today() -> datetime:
    """Return the start of the current day in UTC; a share is valid until the end of its last day."""
    return _start_of_day(int(time.time()) // _DAY_SECONDS)


@lru_cache(maxsize=2)
def _start_of_day(day: int) -> datetime:
    return datetime.fromtimestamp(day * _DAY_SECONDS, UTC)


def is_shared(since: ColumnElement[datetime] | datetime) -> ColumnElement[bool]:
    """Return the condition that a share is valid on the day that begins then."""
    return or_(RepositoryShareRow.deadline.is_(None), RepositoryShareRow.deadline >= since)


_IS_ADMIN: BindParameter[bool] = bindparam("is_admin", type_=Boolean)
_DAY_SECONDS = 86400
_TAKE_IN = "an administrator can let users into it with: tagferry org create {}/{}"
_LOGIN = "without a login only public repositories can be read; try: docker login"


def _decision() -> Select[*tuple[Any, ...]]:
    """Select everything that decides about a repository, always as one row."""
    one = select(literal(1).label("one")).subquery("one")
    organization = and_(
        OrganizationRow.region == bindparam("region"),
        OrganizationRow.name == bindparam("namespace"),
    )
    repository = and_(
        RepositoryRow.region == bindparam("region"),
        RepositoryRow.namespace == bindparam("namespace"),
        RepositoryRow.name == bindparam("repository"),
    )
    permission = and_(
        OrganizationPermissionRow.organization_id == OrganizationRow.id,
        OrganizationPermissionRow.user_id == bindparam("user_id"),
    )
    permission_here = and_(
        RepositoryPermissionRow.repository_id == RepositoryRow.id,
        RepositoryPermissionRow.user_id == bindparam("user_id"),
    )
    share = and_(
        RepositoryShareRow.repository_id == RepositoryRow.id,
        RepositoryShareRow.domain_name == bindparam("domain_name"),
        is_shared(bindparam("today")),
    )
    return (
        select(
            OrganizationRow.id,
            OrganizationRow.domain_id,
            OrganizationRow.creator_id,
            OrganizationRow.creator_name,
            OrganizationPermissionRow.permission.label("held"),
            RepositoryRow.is_public,
            RepositoryPermissionRow.permission.label("held_here"),
            RepositoryShareRow.domain_name.label("shared_with"),
            _IS_ADMIN.label("is_admin"),
        )
        .select_from(one)
        .outerjoin(OrganizationRow, organization)
        .outerjoin(OrganizationPermissionRow, permission)
        .outerjoin(RepositoryRow, repository)
        .outerjoin(RepositoryPermissionRow, permission_here)
        .outerjoin(RepositoryShareRow, share)
    )


def _decided(rows: Rows) -> _Found:
    """Return what the row of `_DECISION` says."""
    (row,) = rows
    owner = Owner(row.id, row.domain_id, row.creator_id, row.creator_name) if row.id is not None else None
    held, is_shared = max(row.held or 0, row.held_here or 0), row.shared_with is not None
    is_known = owner is not None or row.is_public is not None
    return _Found(
        owner=owner,
        held=held,
        is_public=row.is_public,
        is_shared=is_shared,
        is_granted=bool(held or row.is_public or is_shared or (row.is_admin and is_known)),
    )


def _first(rows: Rows) -> Any:
    return next(iter(rows), None)


# Built once: they run for every sync, pull and push that finds nothing remembered.
_DECISION = _decision()
_ORGANIZATION = (
    select(
        OrganizationRow.id,
        OrganizationRow.region,
        OrganizationRow.name,
        OrganizationRow.creator_id,
        OrganizationRow.creator_name,
        OrganizationRow.created_at,
        OrganizationPermissionRow.permission.label("held"),
    )
    .outerjoin(
        OrganizationPermissionRow,
        and_(
            OrganizationPermissionRow.organization_id == OrganizationRow.id,
            OrganizationPermissionRow.user_id == bindparam("user_id"),
        ),
    )
    .where(OrganizationRow.region == bindparam("region"), OrganizationRow.name == bindparam("namespace"))
)
_READABLE_ORGANIZATIONS = (
    select(OrganizationRow.name, DomainRow.name.label("domain"))
    .join(DomainRow, DomainRow.id == OrganizationRow.domain_id)
    .where(
        OrganizationRow.region == bindparam("region"),
        or_(
            _IS_ADMIN,
            OrganizationRow.id.in_(
                select(OrganizationPermissionRow.organization_id).where(
                    OrganizationPermissionRow.user_id == bindparam("user_id")
                )
            ),
        ),
    )
)
_READABLE_REPOSITORIES = repositories_with_domains(bindparam("region", type_=String)).where(
    or_(
        _IS_ADMIN,
        RepositoryRow.is_public,
        RepositoryRow.id.in_(
            select(RepositoryPermissionRow.repository_id).where(RepositoryPermissionRow.user_id == bindparam("user_id"))
        ),
        RepositoryRow.id.in_(
            select(RepositoryShareRow.repository_id).where(
                RepositoryShareRow.domain_name == bindparam("domain_name"), is_shared(bindparam("today"))
            )
        ),
    )
)
