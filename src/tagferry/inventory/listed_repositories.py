"""The repositories of a list, with what the database records and what the registry holds."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, overload

from tagferry.accounts.model import RepositoryRecord
from tagferry.accounts.repositories import OTHER
from tagferry.catalog import RepositoryDetails
from tagferry.names import RepositoryName


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


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of repositories.

    Attributes:
        names: all of them, in lexical order.
        views: returns the views of some of them, in the given order.
    """

    names: Sequence[RepositoryName]
    views: Callable[[Sequence[RepositoryName]], Awaitable[list[View]]]
