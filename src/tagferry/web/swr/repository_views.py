"""Views of repositories, which combine their records with the content of their registry."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Self, overload

from tagferry.accounts.access import ReadableRepositories
from tagferry.accounts.model import RepositoryRecord
from tagferry.accounts.repositories import OTHER
from tagferry.catalog import (
    RepositoryDetails,
    describe_repositories,
    describe_repository,
    list_repositories,
    repositories_with_tags,
)
from tagferry.errors import NotFound
from tagferry.events import SparseEvents
from tagferry.names import RepositoryName, Tag
from tagferry.web.swr.context import SwrContext

_ASKED_AT_MOST = 500
"""The maximum number of repositories for which one list checks whether they still have an image."""

log = SparseEvents(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A repository that has a record, or is in its region's registry, or both.

    Attributes:
        domain_name: the domain that owns the repository, in lists.
        is_shared: whether the repository is still shared, in lists of repositories shared with the caller's domain.
        downloads: the recorded number of downloads.
    """

    name: RepositoryName
    record: RepositoryRecord | None
    domain_name: str = ""
    is_shared: bool | None = None
    downloads: int = 0

    @property
    def category(self) -> str:
        """One of SWR's categories, or empty."""
        return self.record.category if self.record else OTHER

    @property
    def is_public(self) -> bool:
        """True if everyone can read the repository."""
        return self.record is not None and self.record.is_public

    @property
    def description(self) -> str:
        """The description, possibly empty."""
        return self.record.description if self.record else ""


@dataclass(frozen=True, slots=True)
class View:
    """A repository with the details of its images, if any."""

    entry: Entry
    details: RepositoryDetails

    @property
    def created(self) -> datetime | None:
        """The creation time of the record, or else of the oldest image."""
        return self.entry.record.created_at if self.entry.record else self.details.created

    @property
    def updated(self) -> datetime | None:
        """The time of the last push or update of the record."""
        said = self.entry.record.updated_at if self.entry.record else None
        return max(filter(None, (said, self.details.updated)), default=None)


class Entries(Sequence[Entry]):
    """The repositories of a list, by name. An entry is made only for a repository that is looked at.

    Attributes:
        names: the repositories in lexical order.
    """

    def __init__(self, names: Sequence[RepositoryName], make: Callable[[RepositoryName], Entry]) -> None:
        self.names = names
        self._make = make

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """Return a list of these."""
        by_name = {entry.name: entry for entry in entries}
        return cls(sorted(by_name), by_name.__getitem__)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, slice):
            return self.select(self.names[index])
        return self._make(self.names[index])

    def select(self, names: Iterable[RepositoryName]) -> list[Entry]:
        """Return the entries of some of these repositories."""
        return [self._make(name) for name in names]


async def list_readable(
    context: SwrContext, readable: ReadableRepositories, *, namespace: str | None = None, part: str | None = None
) -> Entries:
    """Return the repositories that the caller can read, of one organization or of all, ordered by name.

    A name with neither a record nor a tag is omitted, since some registries keep listing deleted repositories. If many
    names have no record, this is not checked.

    Args:
        context: the request's context.
        readable: what the caller can read.
        namespace: only repositories of this organization.
        part: only repositories with this in their name.

    Raises:
        Unsupported: the region's registry does not list its repositories.
    """
    namespaces = readable.namespaces
    if namespaces is not None and namespace:
        namespaces = namespaces & {namespace}
    records = await context.services.repositories.list_in(context.region.id, namespaces)
    by_name = {record.name: record for record in records}
    downloads = await context.services.downloads.in_region(context.region.id, namespaces)
    names: Sequence[RepositoryName] = await list_repositories(context.region.store, namespaces)
    if not by_name.keys() <= set(names):
        names = sorted({*by_name, *names})
    names = _readable(names, readable, namespace)
    if part:
        names = [name for name in names if part in name.partition("/")[2]]
    unrecorded = [name for name in names if name not in by_name] if by_name else names
    if vacant := await _vacant(context, unrecorded):
        names = [name for name in names if name not in vacant]

    def entry(name: RepositoryName) -> Entry:
        return Entry(name, by_name.get(name), domain_name=readable.domain_of(name), downloads=downloads.get(name, 0))

    return Entries(names, entry)


def _readable(
    names: Sequence[RepositoryName], readable: ReadableRepositories, namespace: str | None
) -> list[RepositoryName]:
    found: list[RepositoryName] = []
    # Names are sorted, so that those of an organization are next to each other.
    for organization, group in groupby(names, key=lambda name: name.partition("/")[0]):
        if namespace and organization != namespace:
            continue
        if readable.is_everything or organization in readable.organizations:
            found += group
        else:
            found += [name for name in group if name in readable]
    return found


async def _vacant(context: SwrContext, names: Sequence[RepositoryName]) -> set[RepositoryName]:
    """Return the repositories that are known to have no tag, or none if there are too many to check."""
    if len(names) > _ASKED_AT_MOST:
        return set()
    return set(names) - await repositories_with_tags(context.region.store, names)


async def views(context: SwrContext, entries: Sequence[Entry]) -> list[View]:
    """Return the views of listed repositories, without images if they are missing or cannot be read."""
    shown = [entry.name for entry in entries if entry.is_shared is not False]
    described = dict(zip(shown, await described_names(context, shown), strict=True))
    return [View(entry, described.get(entry.name) or RepositoryDetails(entry.name)) for entry in entries]


async def described_names(context: SwrContext, names: Sequence[RepositoryName]) -> list[RepositoryDetails]:
    """Return repositories with their images, or without if they are missing or cannot be read."""
    found = []
    for name, one in zip(names, await describe_repositories(context.region.store, names), strict=True):
        if isinstance(one, RepositoryDetails):
            found.append(one)
            continue
        found.append(RepositoryDetails(name))
        if not isinstance(one, NotFound):
            log.warning("list.repository.unreadable", region=context.region.id, repository=name, reason=str(one))
    return found


async def find(context: SwrContext, name: RepositoryName) -> View:
    """Return the view of a repository; raises NotFound if it has no record and is not in the registry."""
    record = await context.services.repositories.find(context.region.id, name)
    entry = Entry(name, record, downloads=await context.services.downloads.of(context.region.id, name))
    if record is not None:
        return (await views(context, [entry]))[0]
    return View(entry, await describe_repository(context.region.store, name))


@asynccontextmanager
async def as_missing_tag(context: SwrContext, name: RepositoryName, tag: Tag) -> AsyncIterator[None]:
    """Raise NotFound for the tag instead of the repository, if the repository has a record but no image."""
    try:
        yield
    except NotFound as error:
        if error.kind != "repository" or await context.services.repositories.find(context.region.id, name) is None:
            raise
        raise NotFound("tag", f"{name}:{tag}") from None
