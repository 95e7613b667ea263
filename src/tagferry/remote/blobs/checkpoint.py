"""Upload sessions that outlive the process that opened them, so that what has arrived of a blob is not sent again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor

WORTH_KEEPING = 16 * 1024 * 1024
"""Bytes of the smallest blob whose session is looked up: a smaller one is sent again within seconds on any link."""
NOTED_AFTER = 1.0
"""Seconds that an upload lasts before its session is noted, so that a quick one costs no write."""


class UploadKeeper(Protocol):
    """Keeps where the upload sessions at one registry are; it is only a help, so that nothing here raises."""

    @property
    def is_leaving(self) -> bool:
        """Whether this process stops, so that an upload which is cancelled now is for another one to go on with."""
        ...

    async def recall(self, repository: RepositoryName, digest: Digest) -> str | None:
        """The address of the session for this blob that was noted last, unless that is long ago."""
        ...

    async def note(self, repository: RepositoryName, digest: Digest, location: str) -> None:
        """Keep the address of this blob's session instead of an earlier one; it may hold a secret of the registry."""
        ...

    async def forget(self, repository: RepositoryName, digest: Digest) -> None:
        """Keep no session for this blob."""
        ...


class Memo:
    """What is kept of the session of one blob, where there is a keeper and the blob is worth it.

    Args:
        keeper: keeps it for later processes.
        repository: where the blob goes.
        descriptor: the blob.
        is_own: whether the registry itself answers at an address. Others are not kept: credentials go nowhere else,
            and what a storage service hands out is valid for minutes.
    """

    def __init__(
        self,
        keeper: UploadKeeper | None,
        repository: RepositoryName,
        descriptor: Descriptor,
        is_own: Callable[[str], bool],
    ) -> None:
        self._keeper = keeper if descriptor.size >= WORTH_KEEPING else None
        self._repository = repository
        self._digest = descriptor.digest
        self._is_own = is_own
        self._noted = ""

    @property
    def holds_one(self) -> bool:
        """Whether a session is noted, for a later attempt or process to go on with."""
        return bool(self._noted)

    @property
    def is_left_to_others(self) -> bool:
        """Whether a session is noted, and this process stops."""
        return bool(self._noted) and self._keeper is not None and self._keeper.is_leaving

    async def recall(self) -> str | None:
        """The address of a session that somebody left."""
        if self._keeper is None:
            return None
        location = await self._keeper.recall(self._repository, self._digest)
        self._noted = location or ""
        if location is not None and not self._is_own(location):
            await self.forget()
            return None
        return location

    @asynccontextmanager
    async def following(self, location: Callable[[], str]) -> AsyncIterator[None]:
        """Note where the session is while this lasts: after a second, and again after it has moved."""
        if self._keeper is None:
            yield
            return
        over = asyncio.Event()
        noting = asyncio.create_task(self._follow(self._keeper, location, over))
        try:
            yield
        finally:
            over.set()
            await noting

    async def forget(self) -> None:
        """The session has ended, or is of no use."""
        if self._keeper is not None and self._noted:
            self._noted = ""
            await self._keeper.forget(self._repository, self._digest)

    async def _follow(self, keeper: UploadKeeper, location: Callable[[], str], over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                async with asyncio.timeout(NOTED_AFTER):
                    await over.wait()
            except TimeoutError:
                current = location()
                if current != self._noted and self._is_own(current):
                    self._noted = current
                    await keeper.note(self._repository, self._digest, current)
