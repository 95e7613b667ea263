"""The members of organizations and repositories: users and their permissions, on behalf of users."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tagferry.accounts.access import AccessControl
from tagferry.accounts.grants import Grant, Grants
from tagferry.accounts.model import Caller, Organization, Permission
from tagferry.errors import Denied, NotFound
from tagferry.inventory.repositories import RepositoryInventory
from tagferry.names import Namespace, RepositoryName
from tagferry.regions import Region


@dataclass(frozen=True, slots=True)
class OrganizationMembers:
    """The permissions in an organization, in the order in which they were granted."""

    organization: Organization
    grants: Sequence[Grant]


@dataclass(frozen=True, slots=True)
class RepositoryMembers:
    """The permissions on a repository itself.

    Attributes:
        permission: the caller's effective permission.
        grants: in the order in which they were granted; none for guests.
    """

    permission: Permission
    grants: Sequence[Grant]


class MemberInventory:
    """The permissions of users, for callers of every API.

    Each change applies to all given users or to none. It raises NotFound for an organization, a repository or a user
    that does not exist, and Denied for callers who cannot manage the organization or the repository.

    Args:
        access: authorizes the caller.
        repositories: the repositories.
        organization_grants: stores the permissions in organizations.
        repository_grants: stores the permissions on repositories.
    """

    def __init__(
        self,
        *,
        access: AccessControl,
        repositories: RepositoryInventory,
        organization_grants: Grants,
        repository_grants: Grants,
    ) -> None:
        self._access = access
        self._repositories = repositories
        self._in_organizations = organization_grants
        self._on_repositories = repository_grants

    async def of_organization(self, caller: Caller, region: Region, name: Namespace) -> OrganizationMembers:
        """Return the permissions in an organization, for callers who can read it."""
        organization = await self._organization(caller, region, name, Permission.READ)
        return OrganizationMembers(organization, await self._in_organizations.list_for(organization.id))

    async def is_member(self, caller: Caller, region: Region, name: Namespace) -> bool:
        """Return whether the caller may see the permissions granted in an organization."""
        try:
            await self._organization(caller, region, name, Permission.READ)
        except (Denied, NotFound):
            return False
        return True

    async def add_to_organization(
        self, caller: Caller, region: Region, name: Namespace, grants: Sequence[Grant]
    ) -> None:
        """Grant permissions to users who have none there; raises Conflict for others."""
        organization = await self._organization(caller, region, name, Permission.MANAGE)
        await self._in_organizations.add(organization.id, grants)

    async def change_in_organization(
        self, caller: Caller, region: Region, name: Namespace, grants: Sequence[Grant]
    ) -> None:
        """Change permissions of users."""
        organization = await self._organization(caller, region, name, Permission.MANAGE)
        await self._in_organizations.change(organization.id, grants)

    async def remove_from_organization(
        self, caller: Caller, region: Region, name: Namespace, user_ids: Collection[str]
    ) -> None:
        """Revoke permissions of users. Permissions granted on single repositories remain."""
        organization = await self._organization(caller, region, name, Permission.MANAGE)
        await self._in_organizations.remove(organization.id, user_ids)

    async def of_repository(self, caller: Caller, region: Region, name: RepositoryName) -> RepositoryMembers:
        """Return the permissions granted on a repository itself. Guests see none."""
        access = await self._access.require(caller, region.id, name, Permission.READ)
        record = await self._repositories.find_record(region, name)
        grants = await self._on_repositories.list_for(record.id) if record and not access.is_guest else []
        return RepositoryMembers(access.permission, grants)

    async def add_to_repository(
        self, caller: Caller, region: Region, name: RepositoryName, grants: Sequence[Grant]
    ) -> None:
        """Grant permissions to users who have none on the repository itself; raises Conflict for others."""
        await self._on_repositories.add(await self._record(caller, region, name), grants)

    async def change_in_repository(
        self, caller: Caller, region: Region, name: RepositoryName, grants: Sequence[Grant]
    ) -> None:
        """Change permissions of users."""
        await self._on_repositories.change(await self._record(caller, region, name), grants)

    async def remove_from_repository(
        self, caller: Caller, region: Region, name: RepositoryName, user_ids: Collection[str]
    ) -> None:
        """Revoke permissions of users. Permissions in the organization remain."""
        await self._on_repositories.remove(await self._record(caller, region, name), user_ids)

    async def _organization(
        self, caller: Caller, region: Region, name: Namespace, permission: Permission
    ) -> Organization:
        organization = await self._access.require_organization(caller, region.id, name, permission)
        if organization is None:
            raise NotFound(
                "organization", name, "create it before you grant permissions in it", where=f"in {region.id}"
            )
        return organization

    async def _record(self, caller: Caller, region: Region, name: RepositoryName) -> int:
        return await self._repositories.record_to_change(caller, region, name, Permission.MANAGE)
