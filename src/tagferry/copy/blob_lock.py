"""A lock on one blob of one registry, so that several processes do not send it at the same time."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from tagferry.names import Digest, RepositoryName


class LockedBlob:
    """A blob whose lock the caller holds.

    Attributes:
        copied_to: the repository to which another holder copied the blob while the caller waited; None if none did.
        is_copied: set by the caller once its repository holds the blob, so that the waiters are notified.
    """

    def __init__(self) -> None:
        self.copied_to: RepositoryName | None = None
        self.is_copied = False


class BlobLock(Protocol):
    """Allows one copy of a blob to a registry at a time, among all processes; identifies stores by their addresses."""

    def acquire(
        self, address: str, repository: RepositoryName, digest: Digest
    ) -> AbstractAsyncContextManager[LockedBlob]:
        """Wait for the lock of this blob at this store, and hold it within the context.

        If it is unknown whether the lock is held, the caller proceeds: sending a blob twice is harmless.
        """
        ...


class NullBlobLock:
    """The lock of a single process, which never waits."""

    @asynccontextmanager
    async def acquire(self, address: str, repository: RepositoryName, digest: Digest) -> AsyncIterator[LockedBlob]:
        """Return at once."""
        yield LockedBlob()
