"""Who moves a blob, where several processes may want it at the same registry at the same time."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from tagferry.names import Digest, RepositoryName


@dataclass(slots=True)
class LockedBlob:
    """A mover's turn.

    Attributes:
        copied_to: the repository to which somebody brought the blob while this mover waited, if somebody did.
        is_copied: to be set once the blob is in the mover's repository, so that those who wait are told.
    """

    copied_to: RepositoryName | None = None
    is_copied: bool = False


class BlobLock(Protocol):
    """Lets one mover at a time bring a blob to a registry, among all processes. Stores are told by their names."""

    def acquire(
        self, store: str, repository: RepositoryName, digest: Digest
    ) -> AbstractAsyncContextManager[LockedBlob]:
        """Wait until nobody else brings this blob to this store, and keep others waiting meanwhile.

        Where nobody can tell whether somebody else does, it is let through: a blob that is sent twice does no harm.
        """
        ...


class NullBlobLock:
    """Moves where there is no other process."""

    @asynccontextmanager
    async def acquire(self, store: str, repository: RepositoryName, digest: Digest) -> AsyncIterator[LockedBlob]:
        """Never wait."""
        yield LockedBlob()
