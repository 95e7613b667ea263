"""Checkpoints of upload sessions, from which a later attempt or process resumes a partial upload."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor

MIN_SIZE = 16 * 1024 * 1024
"""Size of the smallest blob with a checkpoint: a smaller one is sent again within seconds on any link."""
SAVE_SECONDS = 1.0
"""Seconds until the session of an upload is saved, so that a quick upload causes no write."""


class UploadCheckpointStore(Protocol):
    """Stores upload sessions at one registry; it is only an optimization, so its methods do not raise.

    Attributes:
        saves_at_once: whether a save is so cheap that the session of every upload is saved before any byte is sent.
    """

    saves_at_once: bool

    @property
    def is_stopping(self) -> bool:
        """True if this process is stopping, so that another one resumes an upload that is cancelled now."""
        ...

    async def load(self, repository: RepositoryName, digest: Digest) -> str | None:
        """Return the location of the session that was last saved for this blob, unless it is too old."""
        ...

    async def save(self, repository: RepositoryName, digest: Digest, location: str) -> None:
        """Save the location of this blob's session; it may contain a secret of the registry."""
        ...

    async def clear(self, repository: RepositoryName, digest: Digest) -> None:
        """Delete the location of this blob's session."""
        ...


class UploadCheckpoint:
    """The checkpoint of one blob's upload session, if there is a store and the blob is large enough.

    Args:
        store: stores it for later processes.
        repository: the target repository.
        descriptor: the blob.
        is_own: returns whether a URL is the registry's own. Other locations are not saved: credentials are not sent
            there, and the URLs of a storage service expire within minutes.
    """

    def __init__(
        self,
        store: UploadCheckpointStore | None,
        repository: RepositoryName,
        descriptor: Descriptor,
        is_own: Callable[[str], bool],
    ) -> None:
        self._store = store if descriptor.size >= MIN_SIZE else None
        self._repository = repository
        self._digest = descriptor.digest
        self._is_own = is_own
        self._saved = ""

    @property
    def is_saved(self) -> bool:
        """True if a session is saved for a later attempt or process."""
        return bool(self._saved)

    @property
    def is_handed_over(self) -> bool:
        """True if a session is saved and this process is stopping."""
        return bool(self._saved) and self._store is not None and self._store.is_stopping

    async def load(self) -> str | None:
        """Return the location of a session that was left by an earlier attempt or process."""
        if self._store is None:
            return None
        location = await self._store.load(self._repository, self._digest)
        self._saved = location or ""
        if location is not None and not self._is_own(location):
            await self.clear()
            return None
        return location

    @asynccontextmanager
    async def saving(self, location: Callable[[], str]) -> AsyncIterator[None]:
        """Save the session's location while this block runs, and again whenever it changes."""
        if self._store is None:
            yield
            return
        if self._store.saves_at_once:
            await self._save(self._store, location())
        finished = asyncio.Event()
        saving_task = asyncio.create_task(self._save_periodically(self._store, location, finished))
        try:
            yield
        finally:
            finished.set()
            await saving_task

    async def clear(self) -> None:
        """Delete the checkpoint of a session that has ended or cannot be used."""
        if self._store is not None and self._saved:
            self._saved = ""
            await self._store.clear(self._repository, self._digest)

    async def _save_periodically(
        self, store: UploadCheckpointStore, location: Callable[[], str], finished: asyncio.Event
    ) -> None:
        while not finished.is_set():
            try:
                async with asyncio.timeout(SAVE_SECONDS):
                    await finished.wait()
            except TimeoutError:
                await self._save(store, location())

    async def _save(self, store: UploadCheckpointStore, location: str) -> None:
        if location != self._saved and self._is_own(location):
            self._saved = location
            await store.save(self._repository, self._digest, location)
