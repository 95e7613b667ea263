"""Read all content of a registry slowly, to find damage before the content is needed."""

import asyncio
import contextlib
import ctypes
import json
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from tagferry.errors import Corrupt, TagferryError
from tagferry.names import DIGEST_ALGORITHMS, Digest, RepositoryName
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import open_file, read_file, replace_file
from tagferry.registry.storage.integrity import Damage, IntegrityChecker, drop_page_cache, record_size
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.threads import settled

Result = TypeVar("Result")

_BLOBS, _REPOSITORIES = "blobs/", "repositories/"
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IDLE_CLASS = 3 << 13
_MAX_PROGRESS_BYTES = 4096


class Progress(NamedTuple):
    """The progress of a scrub.

    Attributes:
        begun_at: when the scrub began, in seconds since 1970.
        done: the last section that was read.
    """

    begun_at: float
    done: str


class _Stopped(Exception):
    """The scrub was closed while it was reading."""


class Scrub:
    """Reads a registry section by section, in a thread of the lowest priority.

    Args:
        layout, blobs, manifests, integrity: the registry's.
        bytes_per_second: the maximum rate; None for no limit.

    Attributes:
        bytes_read: bytes of blobs and manifests that were read so far.
        files_read: blobs and manifests that were read so far.
    """

    def __init__(
        self,
        layout: Layout,
        blobs: BlobFiles,
        manifests: ManifestFiles,
        integrity: IntegrityChecker,
        *,
        bytes_per_second: float | None = None,
    ) -> None:
        self._layout = layout
        self._blobs = blobs
        self._manifests = manifests
        self._integrity = integrity
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, "registry-scrub", initializer=_lower_priority)
        self.bytes_read = 0
        self.files_read = 0

    async def sections(self) -> list[str]:
        """Return all sections, in the order in which to read them."""
        return await self._run(self._sections)

    async def check(self, section: str) -> list[Damage]:
        """Read a section, mark damaged content, and return it for each repository that it affects."""
        read = self._check_blobs if section.startswith(_BLOBS) else self._check_repository
        try:
            return await self._run(lambda: list(read(section)))
        except _Stopped:
            raise asyncio.CancelledError from None

    async def holders(self, damage: Damage) -> list[Damage]:
        """Return the damage of a blob for each repository that holds it."""
        if damage.repository is not None:
            return [damage]
        return await self._run(lambda: list(self._holders(Digest(damage.name))))

    async def progress(self) -> Progress:
        """Return the saved progress."""
        return await self._run(self._load_progress)

    async def save(self, progress: Progress) -> None:
        """Save the progress, for a later process."""
        content = json.dumps(progress._asdict()).encode()
        await self._run(lambda: replace_file(self._progress_file, content, temporary=self._layout.temporary))

    def close(self) -> None:
        """Stop reading, and end the thread."""
        self._stop.set()
        self._thread.shutdown(wait=True)

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await settled(asyncio.get_running_loop().run_in_executor(self._thread, work))

    @property
    def _progress_file(self) -> Path:
        return self._layout.root / "scrub"

    def _load_progress(self) -> Progress:
        try:
            document = json.loads(read_file(self._progress_file, _MAX_PROGRESS_BYTES))
            begun_at = float(document["begun_at"])
            return Progress(begun_at if math.isfinite(begun_at) else 0.0, str(document["done"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return Progress(0.0, "")

    def _sections(self) -> list[str]:
        shards = [
            f"{_BLOBS}{algorithm}/{shard}"
            for algorithm in DIGEST_ALGORITHMS
            for shard in self._layout.shards(algorithm)
        ]
        return shards + [f"{_REPOSITORIES}{name}" for name in self._layout.names()]

    def _check_blobs(self, section: str) -> Iterator[Damage]:
        _, algorithm, shard = section.split("/")
        for digest in self._layout.pooled_in(algorithm, shard):
            path = self._layout.pooled(digest)
            with contextlib.suppress(FileNotFoundError):
                if not self._is_intact(path, digest):
                    yield from self._holders(digest)

    def _check_repository(self, section: str) -> Iterator[Damage]:
        """Yield damaged manifests, blobs and tags of a repository, and missing content that its manifests need."""
        repository = RepositoryName(section.removeprefix(_REPOSITORIES))
        needed: set[Digest] = set()
        for digest in self._layout.digests(repository, "_manifests"):
            path = self._layout.manifest(repository, digest)
            try:
                if not self._is_intact(path, digest, repository):
                    yield Damage("manifest", digest, repository)
                    continue
                manifest = self._manifests.read(repository, digest)
            except Corrupt:
                yield Damage("manifest", digest, repository)
            except (FileNotFoundError, TagferryError):
                continue
            else:
                needed |= {blob.digest for blob in manifest.blobs if not blob.is_external}
        for digest in self._layout.digests(repository, "_blobs"):
            if not self._is_pool_link(repository, digest):
                self._blobs.find(repository, digest, thorough=True)
        yield from (
            Damage("blob", digest, repository)
            for digest in sorted(needed)
            if self._blobs.find(repository, digest) is None and not self._blobs.link_to_pool(repository, digest)
        )
        yield from (Damage("manifest", digest, repository) for digest in self._manifests.missing(repository))
        for tag in self._manifests.damaged_tags(repository):
            yield Damage("tag", tag, repository)

    def _is_intact(self, path: Path, digest: Digest, repository: RepositoryName | None = None) -> bool:
        """Read and verify a file from the disk, past the page cache; a false mark is removed."""
        kind = "blob" if repository is None else "manifest"
        self.files_read += 1
        with contextlib.suppress(OSError), open_file(path) as file:
            drop_page_cache(file)
        if not self._integrity.check(path, digest, kind=kind, repository=repository, on_chunk=self._throttle):
            return False
        if repository is None:
            record_size(path)
        return True

    def _holders(self, digest: Digest) -> Iterator[Damage]:
        for repository in self._layout.names():
            if os.path.lexists(self._layout.blob(repository, digest)) and self._blobs.find(repository, digest) is None:
                yield Damage("blob", digest, repository)

    def _is_pool_link(self, repository: RepositoryName, digest: Digest) -> bool:
        try:
            return self._layout.blob(repository, digest).lstat().st_ino == self._layout.pooled(digest).lstat().st_ino
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _throttle(self, count: int) -> None:
        self.bytes_read += count
        if self._bytes_per_second is not None:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._bytes_per_second
            self._stop.wait(max(0.0, self._free_at - now))
        if self._stop.is_set():
            raise _Stopped


def _lower_priority() -> None:
    """Give this thread the lowest CPU and I/O priority, where the system supports it."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    if number := _IOPRIO_SET.get(platform.machine()):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).syscall(number, 1, 0, _IDLE_CLASS)
