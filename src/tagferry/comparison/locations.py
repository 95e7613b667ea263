"""Find the repositories that hold an image, by its digest."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tagferry import bounds
from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.accounts.readable import ReadableRepositories
from tagferry.catalog import list_repositories
from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.listings import listings_of
from tagferry.comparison.reading import RepositoryReader, Unknown
from tagferry.comparison.records import CopyRecords
from tagferry.concurrency import bounded_gather, gather
from tagferry.errors import InvalidName, TagferryError
from tagferry.names import Digest, RegionId, RepositoryName, RepositoryRef
from tagferry.regions import Region, Regions

_SECONDS = 3.0
"""Seconds that a registry may take for one repository, and a region for its list of repositories."""
_REMOTE_SHARE = 20
_AT_ONCE = 8
_FAILURES = 3
"""Repositories that a region may fail to answer for before the others are not asked."""
_BLOBS = 20
"""Blobs by which remembered locations are searched: a repository that has them probably has the image."""


class BlobLocations(Protocol):
    """The remembered locations of blobs (`tagferry.cache.blob_locations`)."""

    async def find(self, store: str, digests: Collection[Digest]) -> dict[Digest, list[RepositoryName]]:
        """Return the repositories of a store that probably hold these blobs."""
        ...


@dataclass(frozen=True, slots=True)
class RegionCoverage:
    """The requests of a search to a region.

    Attributes:
        asked: the number of repositories that were asked.
        is_complete: whether these were all that the caller may read, and all have answered.
        reason: why it is not complete.
    """

    region: RegionId
    asked: int
    is_complete: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ImageLocations:
    """The result of a search.

    Attributes:
        found: the repositories that hold the image.
        coverage: what was asked of each region.
    """

    found: tuple[RepositoryRef, ...]
    coverage: tuple[RegionCoverage, ...]


@dataclass(slots=True)
class _Search:
    """The state of a search in one region.

    Attributes:
        listed: the repositories of an embedded registry that the caller may read; None if they are not known.
        reason: why not all repositories are asked.
    """

    region: Region
    readable: ReadableRepositories
    listed: list[RepositoryName] | None = None
    reason: str = ""
    asked: dict[RepositoryName, bool | Unknown] = field(default_factory=dict)

    @property
    def holders(self) -> list[RepositoryName]:
        return [name for name, holds in self.asked.items() if holds is True]

    @property
    def limit(self) -> int:
        most = bounds.LOCATED_REPOSITORIES
        return most if listings_of(self.region.store) is not None else most // _REMOTE_SHARE


class LocationService:
    """Finds images by digest, as far as the caller may read.

    Embedded registries are asked for all repositories. In other regions only those repositories are asked to which or
    from which jobs copied the digest, which have the name of one that holds it, or in which blobs of the image were
    seen.

    Args:
        regions: the configured regions.
        access: authorizes the caller.
        records: the records of jobs.
        locations: the remembered locations of blobs.
        seconds: how long a registry may take for one repository.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        access: AccessControl,
        records: CopyRecords,
        locations: BlobLocations,
        seconds: float = _SECONDS,
    ) -> None:
        self._regions = regions
        self._access = access
        self._records = records
        self._locations = locations
        self._seconds = seconds

    async def find(self, caller: Caller, digest: Digest, *, like: RepositoryName | None = None) -> ImageLocations:
        """Return the repositories that hold a manifest.

        Args:
            caller: only repositories that this caller may read are asked.
            digest: the digest of the manifest.
            like: a repository that probably holds it; the same name is asked for in every region.
        """
        searches = {
            region.id: _Search(region, await self._access.readable(caller, region.id)) for region in self._regions
        }
        await gather(*(self._list(search) for search in searches.values()))
        first = {search.region.id: list(search.listed or ()) for search in searches.values()}
        for holder in await self._records.holders(digest):
            if holder.region in first:
                first[holder.region].insert(0, holder.name)
        if like is not None:
            for names in first.values():
                names.insert(0, like)
        await self._ask(searches, first, digest)
        await self._ask(searches, await self._suggested(searches, digest), digest)
        return ImageLocations(
            found=tuple(_references(searches.values())),
            coverage=tuple(map(_coverage, searches.values())),
        )

    async def _list(self, search: _Search) -> None:
        if listings_of(search.region.store) is None:
            search.reason = "only repositories in which it is expected were asked"
            return
        try:
            names = await list_repositories(search.region.store, search.readable.namespaces)
        except (TagferryError, OSError) as error:
            search.reason = error.message if isinstance(error, TagferryError) else str(error.strerror)
            return
        search.listed = [name for name in names if name in search.readable]

    async def _ask(
        self, searches: Mapping[RegionId, _Search], wanted: Mapping[RegionId, Iterable[RepositoryName]], digest: Digest
    ) -> None:
        async def region(search: _Search, names: Iterable[RepositoryName]) -> None:
            new = [name for name in dict.fromkeys(names) if name in search.readable and name not in search.asked]
            free = max(0, search.limit - len(search.asked))
            if len(new) > free:
                search.reason = f"{len(new) - free} more repositories were not asked"
            await bounded_gather(new[:free], lambda name: self._ask_one(search, name, digest), limit=_AT_ONCE)

        await gather(*(region(searches[one], names) for one, names in wanted.items()))

    async def _ask_one(self, search: _Search, name: RepositoryName, digest: Digest) -> None:
        try:
            reference = RepositoryRef.of(search.region.id, name)
        except InvalidName:
            # SWR's rules forbid the name, so no API shows this repository.
            return
        if sum(isinstance(one, Unknown) for one in search.asked.values()) >= _FAILURES:
            # A region that does not answer is not waited for again and again.
            search.asked[name] = Unknown(search.reason)
            return
        holds = await RepositoryReader(reference, search.region.store, seconds=self._seconds).holds(digest)
        search.asked[name] = holds
        if isinstance(holds, Unknown):
            search.reason = holds.reason

    async def _suggested(
        self, searches: Mapping[RegionId, _Search], digest: Digest
    ) -> dict[RegionId, list[RepositoryName]]:
        """Return repositories with the name of one that holds the image, or with the blobs of the image."""
        holders = [(search.region, name) for search in searches.values() for name in search.holders]
        names = list(dict.fromkeys(name for _, name in holders))
        blobs = await self._blobs(*holders[0], digest) if holders else []
        suggested = {}
        for search in searches.values():
            known = await self._locations.find(search.region.store.address, blobs) if blobs else {}
            both = set.intersection(*(set(known.get(blob, ())) for blob in blobs)) if blobs else set()
            suggested[search.region.id] = [*names, *sorted(both)]
        return suggested

    async def _blobs(self, region: Region, name: RepositoryName, digest: Digest) -> list[Digest]:
        """Return some blobs of the image; empty if it cannot be read."""
        try:
            async with asyncio.timeout(self._seconds):
                image = await BoundedReader(region.store).image(name, digest)
        except (TagferryError, OSError, TimeoutError):
            return []
        return list(image.blobs)[:_BLOBS] if image is not None else []


def _references(searches: Iterable[_Search]) -> Iterable[RepositoryRef]:
    for search in searches:
        for name in sorted(search.holders):
            yield RepositoryRef.of(search.region.id, name)


def _coverage(search: _Search) -> RegionCoverage:
    asked = sum(not isinstance(holds, Unknown) for holds in search.asked.values())
    return RegionCoverage(search.region.id, asked, is_complete=not search.reason, reason=search.reason)
