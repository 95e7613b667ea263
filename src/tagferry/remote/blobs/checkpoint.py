"""Upload sessions that outlive the process that opened them, so that what has arrived of a blob is not sent again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor

MIN_SIZE = 16 * 1024 * 1024
"""Bytes of the smallest blob whose session is looked up: a smaller one is sent again within seconds on any link."""
SAVE_SECONDS = 1.0
"""Seconds that an upload lasts before its session is noted, so that a quick one costs no write."""


class UploadCheckpointStore(Protocol):
    """Keeps where the upload sessions at one registry are; it is only a help, so that nothing here raises."""

    @property
    def is_stopping(self) -> bool:
        """Whether this process stops, so that an upload which is cancelled now is for another one to go on with."""
        ...

    async def load(self, repository: RepositoryName, digest: Digest) -> str | None:
        """The address of the session for this blob that was noted last, unless that is long ago."""
        ...

    async def save(self, repository: RepositoryName, digest: Digest, location: str) -> None:
        """Keep the address of this blob's session instead of an earlier one; it may hold a secret of the registry."""
        ...

    async def clear(self, repository: RepositoryName, digest: Digest) -> None:
        """Keep no session for this blob."""
        ...


class UploadCheckpoint:
    """What is kept of the session of one blob, where there is a keeper and the blob is worth it.

    Args:
        store: keeps it for later processes.
        repository: where the blob goes.
        descriptor: the blob.
        is_own: whether the registry itself answers at an address. Others are not kept: credentials go nowhere else,
            and what a storage service hands out is valid for minutes.
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
        """Whether a session is noted, for a later attempt or process to go on with."""
        return bool(self._saved)

    @property
    def is_handed_over(self) -> bool:
        """Whether a session is noted, and this process stops."""
        return bool(self._saved) and self._store is not None and self._store.is_stopping

    async def load(self) -> str | None:
        """The address of a session that somebody left."""
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
        """Note where the session is while this lasts: after a second, and again after it has moved."""
        if self._store is None:
            yield
            return
        finished = asyncio.Event()
        saving_task = asyncio.create_task(self._save_periodically(self._store, location, finished))
        try:
            yield
        finally:
            finished.set()
            await saving_task

    async def clear(self) -> None:
        """The session has ended, or is of no use."""
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
                current = location()
                if current != self._saved and self._is_own(current):
                    self._saved = current
                    await store.save(self._repository, self._digest, current)
