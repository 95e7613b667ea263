"""The organizations of a region: their records combined with the repositories of their registry."""

import asyncio
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from tagferry.accounts.access import AccessControl
from tagferry.accounts.downloads import Downloads
from tagferry.accounts.model import Caller, Organization, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.repositories import Repositories
from tagferry.catalog import has_tags, list_repositories
from tagferry.errors import Conflict, Denied, InvalidName, NotFound, Refused, Unavailable, Unsupported
from tagferry.names import Namespace
from tagferry.regions import Region
from tagferry.registry.storage.store import DiskStore

_COUNT_SECONDS = 5.0
"""The maximum time for counting the repositories of a registry in a list."""


@dataclass(frozen=True, slots=True)
class ListedOrganization:
    """An organization in a list.

    Attributes:
        record: its record; None if only the registry has it, which administrators of open regions see.
        users: the number of users with permissions in it.
        repositories: the number of its repositories.
    """

    name: Namespace
    record: Organization | None
    users: int
    repositories: int

    @property
    def permission(self) -> Permission:
        """The caller's permission in it."""
        return self.record.permission if self.record is not None else Permission.MANAGE


class OrganizationInventory:
    """The organizations of the regions, for callers of every API. A reload changes `limit_per_user`.

    Args:
        access: authorizes the caller.
        organizations: the records.
        repositories: the records of repositories.
        downloads: the numbers of downloads.
        limit: the maximum number of organizations that a user can create in a region; None for no limit.
    """

    def __init__(
        self,
        *,
        access: AccessControl,
        organizations: Organizations,
        repositories: Repositories,
        downloads: Downloads,
        limit: int | None,
    ) -> None:
        self._access = access
        self._organizations = organizations
        self._repositories = repositories
        self._downloads = downloads
        self.limit_per_user = limit

    def limit(self, caller: Caller) -> int | None:
        """Return the maximum number of organizations that the caller can create in a region; None for no limit."""
        return None if caller.is_admin else self.limit_per_user

    async def list_for(self, caller: Caller, region: Region, *, name: str = "") -> list[ListedOrganization]:
        """Return the organizations that the caller can read, by name, or only the one with this name."""
        records = await self.readable(caller, region)
        names = [one for one in records if name in ("", one)]
        users, repositories = await self._organizations.user_counts(region.id), await self._count(region, names)
        return [ListedOrganization(one, records[one], users.get(one, 0), repositories[one]) for one in names]

    async def readable(self, caller: Caller, region: Region) -> dict[Namespace, Organization | None]:
        """Return the records of the organizations that the caller can read, by name; None if only the registry has it.

        The registry is asked only for administrators of open regions.
        """
        found = await self._organizations.list_for(caller, region.id)
        records: dict[Namespace, Organization | None] = {organization.name: organization for organization in found}
        if self._access.has_unrecorded_organizations(caller, region.id):
            for one in await self.in_registry(region):
                records.setdefault(one, None)
        return dict(sorted(records.items()))

    async def find(self, caller: Caller, region: Region, name: Namespace) -> Organization | None:
        """Return an organization that the caller can read; None if only the registry has it.

        Raises:
            NotFound: neither has it.
            Denied: the caller cannot read it.
        """
        organization = await self._access.require_organization(caller, region.id, name, Permission.READ)
        if organization is not None or name in await self.in_registry(region):
            return organization
        raise NotFound(
            "organization",
            name,
            "it has no record, and the registry lists no repository in it",
            where=f"in {region.id}",
        )

    async def create(self, caller: Caller, region: Region, name: Namespace) -> None:
        """Create an organization, in an open region the record of one; the caller gets the permission to manage it.

        Raises:
            Denied: the caller may not create it.
            Conflict: it exists, or the registry has images of a deleted organization of this name.
            QuotaExceeded: the caller has as many as allowed.
        """
        self._access.require_creation(caller, region.id, name)
        await self._require_unused(region, name)
        await self._organizations.create(caller, region.id, name, limit=self.limit(caller))

    async def delete(self, caller: Caller, region: Region, name: Namespace) -> None:
        """Delete an empty organization; in an open region, delete only its record.

        Raises:
            NotFound: it has no record.
            Denied: the caller may not manage it, or the registry does not list its repositories.
            Conflict: it still has repositories.
        """
        organization = await self._access.require_organization(caller, region.id, name, Permission.MANAGE)
        if organization is None:
            raise NotFound(
                "organization",
                name,
                "it has no record; organizations are managed in the registry",
                where=f"in {region.id}",
            )
        if not self._access.is_open(region.id):
            await self._require_empty(region, name)
            await self._downloads.forget(region.id, name)
        await self._organizations.delete(region.id, name)

    async def in_registry(self, region: Region) -> set[Namespace]:
        """Return the organizations of the repositories that a region's registry lists, or none if it lists nothing."""
        found = set()
        with suppress(Unsupported):
            for name in await list_repositories(region.store, None):
                with suppress(InvalidName):
                    found.add(name.namespace)
        return found

    async def _require_unused(self, region: Region, name: Namespace) -> None:
        """Remove leftovers of a deleted organization with this name; raises Conflict if it still has images."""
        store = region.store
        # An existing organization keeps its images; creating it raises Conflict later.
        if not isinstance(store, DiskStore) or await self._organizations.exists(region.id, name):
            return
        if held := await store.clear_organization(name):
            raise Conflict(
                "organization in use",
                f'the registry of "{region.id}" still has images of a deleted organization "{name}", such as '
                f'"{held[0]}"; an administrator can assign them to a new one with: tagferry org create '
                f"{region.id}/{name}",
            )

    async def _require_empty(self, region: Region, name: Namespace) -> None:
        """Remove leftovers of deleted repositories; raises Conflict if the organization has a repository."""
        store = region.store
        records = await self._repositories.list_in(region.id, [name])
        try:
            # A list may leave out what cannot be read.
            listed = await (
                store.repositories_in(name) if isinstance(store, DiskStore) else list_repositories(store, [name])
            )
        except Unsupported:
            raise Denied(
                f'the registry of {region.id} does not list its repositories, so it is unknown whether "{name}" is '
                "empty; delete it with: tagferry org delete"
            ) from None
        held = [record.name for record in records] or [one for one in listed if await has_tags(store, one)]
        if held:
            raise Conflict(
                "organization in use",
                f'the organization "{name}" still has repositories, such as "{held[0]}"; delete them first',
            )
        for repository in listed:
            with suppress(NotFound):
                await store.delete_repository(repository)

    async def _count(self, region: Region, namespaces: Collection[Namespace]) -> Counter[str]:
        """Return the number of repositories in each of these organizations.

        If the registry does not list its repositories in time, only those with a record are counted, so that
        organizations can be listed without the registry.
        """
        names = set(await self._repositories.names_in(region.id, namespaces))
        with suppress(Unsupported, Refused, Unavailable, TimeoutError):
            async with asyncio.timeout(_COUNT_SECONDS):
                names.update(await list_repositories(region.store, namespaces))
        return Counter(name.unchecked_namespace for name in names)
