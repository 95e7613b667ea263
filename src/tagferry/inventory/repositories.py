"""The repositories of a region: their records combined with the content of their registry."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from tagferry.accounts.access import AccessControl
from tagferry.accounts.downloads import Downloads
from tagferry.accounts.model import Caller, Permission, RepositoryRecord
from tagferry.accounts.quotas import OrganizationQuotas
from tagferry.accounts.readable import ReadableRepositories
from tagferry.accounts.repositories import Repositories, RepositoryMetadata, repository_conflict
from tagferry.catalog import (
    RepositoryDetails,
    delete_tag,
    describe_repositories,
    describe_repository,
    has_tags,
)
from tagferry.catalog.pages import FoundTags, TagQuery, find_tags
from tagferry.errors import NotFound
from tagferry.events import SparseEvents
from tagferry.inventory.listed_names import listed_names, listed_namespaces
from tagferry.inventory.listed_repositories import Entries, Entry, Listing, View
from tagferry.names import Digest, Reference, RegionId, RepositoryName, Tag
from tagferry.quotas import count_exceeded
from tagferry.regions import Region
from tagferry.registry.storage.store import DiskStore

Forget = Callable[[RegionId, RepositoryName, *tuple[Reference, ...]], Awaitable[None]]
"""Called with a region, a repository and the tags that were deleted from it."""

log = SparseEvents(__name__)


class RepositoryInventory:
    """The repositories of the regions, for callers of every API.

    Args:
        access: authorizes the caller.
        repositories: the records.
        downloads: the numbers of downloads.
        quotas: the quotas of organizations.
        forget: called with the tags that were deleted.
    """

    def __init__(
        self,
        *,
        access: AccessControl,
        repositories: Repositories,
        downloads: Downloads,
        quotas: OrganizationQuotas,
        forget: Forget,
    ) -> None:
        self._access = access
        self._repositories = repositories
        self._downloads = downloads
        self._quotas = quotas
        self._forget = forget

    async def list_readable(
        self,
        region: Region,
        readable: ReadableRepositories,
        *,
        namespace: str | None = None,
        part: str | None = None,
    ) -> Entries:
        """Return the repositories that the caller can read, of one organization or of all, ordered by name.

        A name with neither a record nor a tag is omitted, since some registries keep listing deleted repositories. If
        many names have no record, this is not checked.

        Args:
            region: the region.
            readable: what the caller can read.
            namespace: only repositories of this organization.
            part: only repositories with this in their name.

        Raises:
            Unsupported: the region's registry does not list its repositories.
        """
        namespaces = listed_namespaces(readable, namespace)
        records = await self._repositories.list_in(region.id, namespaces)
        by_name = {record.name: record for record in records}
        downloads = await self._downloads.in_region(region.id, namespaces)
        names = await listed_names(region, by_name, readable, namespace, part)

        def entry(name: RepositoryName) -> Entry:
            return Entry(
                name, by_name.get(name), domain_name=readable.domain_of(name), downloads=downloads.get(name, 0)
            )

        return Entries(names, entry)

    async def names(
        self,
        region: Region,
        readable: ReadableRepositories,
        *,
        namespace: str | None = None,
        part: str | None = None,
    ) -> Sequence[RepositoryName]:
        """Return the names of the repositories of `list_readable`, in a part of its time; raises Unsupported."""
        recorded = await self._repositories.names_in(region.id, listed_namespaces(readable, namespace))
        return await listed_names(region, recorded, readable, namespace, part)

    def listing(self, region: Region, names: Sequence[RepositoryName], readable: ReadableRepositories) -> Listing:
        """Return the list of these repositories, for callers that look at a page of it."""
        return Listing(names, lambda chosen: self.some(region, chosen, readable))

    def listing_of(self, region: Region, entries: Entries) -> Listing:
        """Return a list of known entries."""
        return Listing(entries.names, lambda chosen: self.views(region, entries.select(chosen)))

    async def some(
        self,
        region: Region,
        names: Sequence[RepositoryName],
        readable: ReadableRepositories,
        *,
        largest: int | None = None,
    ) -> list[View]:
        """Return the views of these repositories, in this order.

        Args:
            region: the region.
            names: the repositories.
            readable: what the caller can read.
            largest: the images of repositories with more tags are not looked at; None for no limit.
        """
        by_name = {record.name: record for record in await self._repositories.some(region.id, names)}
        downloads = await self._downloads.of_some(region.id, names)
        return await self.views(
            region,
            [
                Entry(name, by_name.get(name), domain_name=readable.domain_of(name), downloads=downloads.get(name, 0))
                for name in names
            ],
            largest=largest,
        )

    async def views(self, region: Region, entries: Sequence[Entry], *, largest: int | None = None) -> list[View]:
        """Return the views of listed repositories, without images if they are missing or cannot be read."""
        shown = [entry.name for entry in entries if entry.is_shared is not False]
        described = dict(zip(shown, await self.described(region, shown, largest=largest), strict=True))
        return [View(entry, described.get(entry.name) or RepositoryDetails(entry.name)) for entry in entries]

    async def described(
        self, region: Region, names: Sequence[RepositoryName], *, largest: int | None = None
    ) -> list[RepositoryDetails]:
        """Return repositories with their images, or without if they are missing or cannot be read."""
        found = []
        details = await describe_repositories(region.store, names, largest=largest)
        for name, one in zip(names, details, strict=True):
            if isinstance(one, RepositoryDetails):
                found.append(one)
                continue
            found.append(RepositoryDetails(name))
            if not isinstance(one, NotFound):
                log.warning("could not read a listed repository", region=region.id, repository=name, reason=str(one))
        return found

    async def entry(self, region: Region, name: RepositoryName) -> Entry:
        """Return the recorded facts of a repository, which need not exist."""
        record = await self._repositories.find(region.id, name)
        return Entry(name, record, downloads=await self._downloads.of(region.id, name))

    async def find(self, region: Region, name: RepositoryName, *, largest: int | None = None) -> View:
        """Return the view of a repository; raises NotFound if it has no record and is not in the registry."""
        entry = await self.entry(region, name)
        if entry.record is not None:
            return (await self.views(region, [entry], largest=largest))[0]
        return View(entry, await describe_repository(region.store, name, largest=largest))

    async def find_record(self, region: Region, name: RepositoryName) -> RepositoryRecord | None:
        """Return a repository's record, or None if only the registry has it; raises NotFound if neither exists."""
        record = await self._repositories.find(region.id, name)
        if record is None:
            async for _ in region.store.list_tags(name):
                break
        return record

    async def record_to_change(
        self, caller: Caller, region: Region, name: RepositoryName, permission: Permission
    ) -> int:
        """Return the id of a repository's record, for a caller with this permission.

        The record is created if only the registry has the repository.

        Raises:
            NotFound: the organization or the repository does not exist.
            Denied: the caller does not have the permission.
        """
        await self._access.require(caller, region.id, name, permission)
        if record := await self._repositories.find(region.id, name):
            return record.id
        found = await describe_repository(region.store, name)
        return (await self._repositories.find_or_create(caller, region.id, name, since=found.created)).id

    async def create(self, caller: Caller, region: Region, name: RepositoryName, metadata: RepositoryMetadata) -> None:
        """Create an empty repository. A public one requires the permission to manage its organization.

        Raises:
            NotFound: the organization does not exist.
            Denied: the caller does not have the permission.
            Conflict: the repository exists.
            QuotaExceeded: the organization has as many repositories as it may have.
        """
        permission = Permission.MANAGE if metadata.is_public else Permission.EDIT
        await self._access.require(caller, region.id, name, permission)
        if await has_tags(region.store, name):
            raise repository_conflict(region.id, name)
        await self._require_room(region, name)
        await self._repositories.create(caller, region.id, name, metadata)

    async def update(self, caller: Caller, region: Region, name: RepositoryName, metadata: RepositoryMetadata) -> None:
        """Update a repository's metadata; one that was created by a push gets a record.

        Changing `is_public` requires the permission to manage the repository.

        Raises:
            NotFound: the organization or the repository does not exist.
            Denied: the caller does not have the permission.
        """
        access = await self._access.require(caller, region.id, name, Permission.EDIT)
        record = await self._repositories.find(region.id, name)
        if metadata.is_public == (record is not None and record.is_public):
            # Leave the field unchanged, since a concurrent request may be changing it.
            metadata = replace(metadata, is_public=None)
        elif access.permission < Permission.MANAGE:
            await self._access.require(caller, region.id, name, Permission.MANAGE)
        if record is None:
            found = await self.find(region, name)
            await self._repositories.find_or_create(caller, region.id, name, since=found.created)
        await self._repositories.update(region.id, name, metadata)

    async def delete(self, caller: Caller, region: Region, name: RepositoryName) -> None:
        """Delete a repository with all its images. If the registry refuses, the record remains, too.

        Raises:
            NotFound: the organization or the repository does not exist.
            Denied: the caller does not have the permission to manage the repository.
            NotDeleted: the registry still has some content.
            Unsupported: the registry does not support deletion.
        """
        await self._access.require(caller, region.id, name, Permission.MANAGE)
        record = await self._repositories.find(region.id, name)
        try:
            tags = [tag async for tag in region.store.list_tags(name)]
            await region.store.delete_repository(name)
        except NotFound:
            if record is None:
                raise
        else:
            await self._forget(region.id, name, *tags)
        await self._repositories.delete(region.id, name)
        await self._downloads.forget(region.id, name.namespace, name.repository)

    async def find_tags(
        self,
        region: Region,
        name: RepositoryName,
        query: TagQuery,
        *,
        limit: int,
        offset: int = 0,
        manifests: Sequence[Digest] = (),
    ) -> FoundTags:
        """Return a page of a repository's tags, as `catalog.pages.find_tags`; none if it has only a record.

        Raises:
            NotFound: the repository does not exist.
        """
        try:
            return await find_tags(region.store, name, query, limit=limit, offset=offset, manifests=manifests)
        except NotFound:
            is_recorded = await self._repositories.find(region.id, name) is not None
            # Damaged tags are left out, but their repository exists.
            if not is_recorded and not await has_tags(region.store, name):
                raise NotFound("repository", name) from None
            return FoundTags()

    async def delete_tag(self, caller: Caller, region: Region, name: RepositoryName, tag: Tag) -> None:
        """Delete a tag. Its manifest remains if other tags or manifests refer to it.

        Raises:
            NotFound: the tag, the repository or the organization does not exist.
            Denied: the caller does not have the permission to manage the repository.
            Conflict, NotDeleted, Unsupported: as `tagferry.catalog.delete_tag`.
        """
        await self._access.require(caller, region.id, name, Permission.MANAGE)
        async with self.as_missing_tag(region, name, tag):
            await delete_tag(region.store, name, tag)
        await self._forget(region.id, name, tag)

    @asynccontextmanager
    async def as_missing_tag(self, region: Region, name: RepositoryName, tag: Tag) -> AsyncIterator[None]:
        """Raise NotFound for the tag instead of the repository, if the repository has a record but no image."""
        try:
            yield
        except NotFound as error:
            if error.kind != "repository" or await self._repositories.find(region.id, name) is None:
                raise
            raise NotFound("tag", f"{name}:{tag}") from None

    async def _require_room(self, region: Region, name: RepositoryName) -> None:
        """Raise QuotaExceeded if the organization has reached its quota of repositories."""
        namespace = name.namespace
        limit = (await self._quotas.limits(region.id, namespace)).repositories
        if limit is None:
            return
        names = await self._quotas.recorded(region.id, namespace)
        if isinstance(region.store, DiskStore):
            names |= (await region.store.quotas.usage(namespace)).repositories
        if name not in names and len(names) >= limit:
            raise count_exceeded(namespace, "repositories", len(names), limit)
