"""Count what an organization's repositories hold, and check it against the quotas.

The content of an organization is counted at its first use, and additions from then on. Deleted content, and content
that existed already, is not subtracted; so the disk is counted again before a request is refused. The count is
therefore never too low, and exact when it matters. It is kept in memory only, so a crash cannot make it wrong.

What is in directories that cannot be read is unknown: it keeps the size that was last counted, and is counted again
from time to time.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from tagferry.errors import QuotaExceeded
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.names import RepositoryName
from tagferry.quotas import Limits, bytes_exceeded, count_exceeded
from tagferry.registry.storage.layout import Layout, is_upload, log_unreadable
from tagferry.registry.storage.threads import DiskThreads

_log = SparseEvents(__name__)

_PAUSE = 9
"""The pause between two counts of an organization, as a multiple of the first one's duration: counting takes at most a
tenth of the time, and small organizations wait for milliseconds."""
_LONGEST_PAUSE = 1.0
"""The longest pause, in seconds."""
_RECORDED_SECONDS = 5.0
"""The time for which the number of recorded repositories is reused while an organization is well below its limit."""
_MARGIN = 0.9
"""The fraction of the limit that counts as well below it."""
_ALWAYS_EXACT = 100
"""Limits up to this one are always checked exactly."""


class QuotaSource(Protocol):
    """Looks up the quotas of organizations; called for each push, so implementations cache."""

    async def limits(self, namespace: str) -> Limits:
        """Return the quotas of an organization."""
        ...

    async def recorded(self, namespace: str) -> Set[str]:
        """Return the full names of an organization's recorded repositories, including empty ones."""
        ...


@dataclass(slots=True)
class Usage:
    """The usage of an organization.

    Attributes:
        stored: bytes of blobs and manifests.
        reserved: bytes of content that is being stored.
        uploading: bytes that all upload sessions have received.
        uploads: bytes that each upload session has received.
        repositories: the repositories that hold content.
        unknown: the number of directories and repositories that could not be read.
        is_exact: whether nothing was added or deleted since the count.
        counted_from: when the last count began, on the monotonic clock.
        counted_again_at: the earliest time of the next count, on the monotonic clock.
        recorded: the number of recorded repositories at their last lookup.
        recorded_at: the time of that lookup, on the monotonic clock.
    """

    stored: int = 0
    reserved: int = 0
    uploading: int = 0
    uploads: dict[str, int] = field(default_factory=dict)
    repositories: set[str] = field(default_factory=set)
    unknown: int = 0
    is_exact: bool = True
    counted_from: float = -math.inf
    counted_again_at: float = -math.inf
    recorded: int = 0
    recorded_at: float = -math.inf

    @property
    def bytes(self) -> int:
        """All bytes that count against the quota."""
        return self.stored + self.reserved + self.uploading


class Quotas:
    """The quotas of one registry's organizations; without a `source`, nothing is limited or counted."""

    def __init__(self, layout: Layout, threads: DiskThreads) -> None:
        self._layout = layout
        self._threads = threads
        self._usages: dict[str, Usage] = {}
        self._counting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.source: QuotaSource | None = None

    async def usage(self, namespace: str) -> Usage:
        """Return the exact usage of an organization."""
        usage = self._usages.get(namespace)
        return usage if usage is not None and usage.is_exact else await self._count(namespace)

    async def require(self, repository: RepositoryName, size: int) -> None:
        """Raise QuotaExceeded if these bytes, or a new repository, exceed the quota."""
        if self.source is None:
            return
        namespace, limits = repository.unchecked_namespace, await self._limits(repository)
        if limits.bytes is None and limits.repositories is None:
            return

        async def check(usage: Usage) -> None:
            if limits.bytes is not None and usage.bytes + size > limits.bytes:
                raise bytes_exceeded(namespace, usage.bytes, limits.bytes)
            await self._require_repository(usage, repository, limits)

        await self._checked(namespace, check)

    @asynccontextmanager
    async def reserving(self, repository: RepositoryName, size: int) -> AsyncGenerator[None]:
        """Reserve bytes while they are stored; raises QuotaExceeded."""
        if self.source is None:
            yield
            return
        await self.require(repository, size)
        usage = await self._current(repository.unchecked_namespace)
        usage.reserved += size
        try:
            yield
            self._add_stored(usage, repository, size)
        finally:
            usage.reserved -= size

    async def start_upload(self, repository: RepositoryName, session: str) -> None:
        """Count a new upload session; raises QuotaExceeded."""
        if self.source is None:
            return
        await self.require(repository, 1)
        namespace, limits = repository.unchecked_namespace, await self._limits(repository)

        async def check(usage: Usage) -> None:
            if limits.uploads is not None and len(usage.uploads) >= limits.uploads:
                raise count_exceeded(namespace, "upload sessions", len(usage.uploads), limits.uploads)

        await self._checked(namespace, check)
        self._usages[namespace].uploads[session] = 0

    async def meter(
        self, repository: RepositoryName, session: str, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Count the chunks that an upload session receives; raises QuotaExceeded."""
        if self.source is None or (limit := (await self._limits(repository)).bytes) is None:
            return chunks
        namespace = repository.unchecked_namespace
        return self._meter_chunks(await self._current(namespace), namespace, session, chunks, limit)

    def end_upload(self, repository: RepositoryName, session: str) -> None:
        """Stop counting an upload session."""
        usage = self._usages.get(repository.unchecked_namespace)
        if usage is not None:
            usage.uploading -= usage.uploads.pop(session, 0)

    def add_stored(self, repository: RepositoryName, size: int) -> None:
        """Count the content that an upload session has stored."""
        usage = self._usages.get(repository.unchecked_namespace)
        if usage is not None:
            self._add_stored(usage, repository, size)

    def record_deletion(self, repository: RepositoryName | None = None) -> None:
        """Record that content of a repository, or of any, was deleted."""
        for namespace, usage in self._usages.items():
            if repository is None or namespace == repository.unchecked_namespace:
                usage.is_exact = False

    def _add_stored(self, usage: Usage, repository: RepositoryName, size: int) -> None:
        usage.stored += size
        usage.repositories.add(repository)
        usage.is_exact = False

    async def _meter_chunks(
        self, usage: Usage, namespace: str, session: str, chunks: AsyncIterator[bytes], limit: int
    ) -> AsyncGenerator[bytes]:
        async for chunk in chunks:
            usage.uploads[session] = usage.uploads.get(session, 0) + len(chunk)
            usage.uploading += len(chunk)
            if usage.bytes > limit:
                usage = await self.usage(namespace)
                if usage.bytes > limit:
                    BOUND_REACHED.labels(bound="quota").inc()
                    raise bytes_exceeded(namespace, usage.bytes - len(chunk), limit)
            yield chunk

    async def _require_repository(self, usage: Usage, repository: RepositoryName, limits: Limits) -> None:
        if self.source is None or limits.repositories is None or repository in usage.repositories:
            return
        limit, now = limits.repositories, time.monotonic()
        has_margin = limit > _ALWAYS_EXACT and len(usage.repositories) + usage.recorded < limit * _MARGIN
        if has_margin and now - usage.recorded_at < _RECORDED_SECONDS:
            return
        namespace = repository.unchecked_namespace
        recorded = await self.source.recorded(namespace)
        usage.recorded, usage.recorded_at = len(recorded), now
        names = usage.repositories | recorded
        if repository not in names and len(names) >= limit:
            raise count_exceeded(namespace, "repositories", len(names), limit)

    async def _checked(self, namespace: str, check: Callable[[Usage], Awaitable[None]]) -> None:
        """Check the known usage; before refusing, count again and check the exact usage."""
        usage = await self._current(namespace)
        try:
            await check(usage)
        except QuotaExceeded:
            if not usage.is_exact:
                with suppress(QuotaExceeded):
                    return await check(await self._count(namespace))
            BOUND_REACHED.labels(bound="quota").inc()
            raise

    async def _limits(self, repository: RepositoryName) -> Limits:
        assert self.source is not None  # noqa: S101
        return await self.source.limits(repository.unchecked_namespace)

    async def _current(self, namespace: str) -> Usage:
        usage = self._usages.get(namespace)
        is_due = usage is None or (usage.unknown and time.monotonic() >= usage.counted_again_at)
        return await self._count(namespace) if usage is None or is_due else usage

    async def _count(self, namespace: str) -> Usage:
        """Count an organization again; content that is being stored counts as reserved."""
        asked_at = time.monotonic()
        counting = self._counting.setdefault(namespace, asyncio.Lock())
        async with counting:
            usage = self._usages.get(namespace)
            if usage is not None and (usage.is_exact or usage.counted_from >= asked_at):
                return usage
            if usage is None:
                # The first count does not delay the next one, which a refusal may need.
                usage = self._usages[namespace] = await self._threads.run(self._measure, namespace)
                return usage
            await asyncio.sleep(max(0.0, usage.counted_again_at - time.monotonic()))
            began, before = time.monotonic(), usage.stored
            usage.counted_from = began
            usage.is_exact = True
            counted = await self._threads.run(self._measure, namespace)
            usage.unknown = counted.unknown
            if counted.unknown:
                usage.is_exact = False
                counted.stored = max(counted.stored, before)
                counted.repositories |= usage.repositories
            # The count may or may not include content that was stored meanwhile.
            usage.stored = counted.stored + usage.stored - before
            usage.repositories = counted.repositories if usage.is_exact or usage.unknown else usage.repositories
            for session in usage.uploads.keys() & counted.uploads.keys():
                usage.uploads[session] = max(usage.uploads[session], counted.uploads[session])
            usage.uploading = sum(usage.uploads.values())
            ended = time.monotonic()
            usage.counted_again_at = ended + min(_LONGEST_PAUSE, _PAUSE * (ended - began))
            return usage

    def _measure(self, namespace: str) -> Usage:
        found = Usage()

        def unreadable(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                found.unknown += 1
                log_unreadable(error)

        for repository in self._layout.names(namespace, on_error=unreadable):
            try:
                self._add(found, repository)
            except OSError as error:
                # Other repositories of the organization stay usable.
                unreadable(error)
        found.uploading = sum(found.uploads.values())
        found.is_exact = not found.unknown
        if found.unknown:
            _log.warning(
                "an organization's quotas are checked without what could not be read",
                organization=namespace,
                directories=found.unknown,
            )
        return found

    def _add(self, usage: Usage, repository: RepositoryName) -> None:
        usage.uploads |= {path.name: _size(path) for path in self._layout.uploads(repository) if is_upload(path.name)}
        kinds = ("_blobs", "_manifests")
        size = sum(_size(path) for kind in kinds for path in self._layout.content_files(repository, kind))
        usage.stored += size
        if size or self._layout.has_tags(repository):
            usage.repositories.add(repository)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
