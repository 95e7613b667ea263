"""An image store in memory with a log and scripted faults."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from tagferry.copy.rewrite import Acceptance
from tagferry.copy.route import Route
from tagferry.errors import Incomplete, TagferryError
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome, OpenBlob
from tagferry.oci.model import Descriptor, Manifest
from tests.support.memory_store import MemoryStore

APP, COPY = RepositoryName("team/app"), RepositoryName("release/app")
V1, V2 = Tag("v1"), Tag("v2")


class ScriptedStore(MemoryStore):
    """A memory store with a log and faults.

    Attributes:
        log: the content written, in order: `blob DIGEST`, `manifest DIGEST`, `tag TAG`.
        outcomes: the outcome of each blob's write.
        failures: raised when this blob, manifest or tag is queried, read or written.
        on_failure: called with the name before it is raised.
        referrer_failures: the error that makes a list of referrers incomplete, by subject.
        hidden_referrers: manifests whose referrers are not listed.
        dangling: referrers of a manifest that are listed and do not exist.
        many_tags: whether a tag list costs more than one request.
        spoiled: blobs whose content is corrupt when it is read.
        reading: blobs can be read only while this is set.
        being_read: set at the first read of a blob.
        open_reads: current number of reads of blobs.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.log: list[str] = []
        self.outcomes: dict[Digest, BlobOutcome] = {}
        self.failures: dict[str, Exception] = {}
        self.on_failure: Callable[[str], None] = lambda _: None
        self.referrer_failures: dict[Digest, TagferryError] = {}
        self.hidden_referrers: set[Digest] = set()
        self.dangling: dict[Digest, list[Descriptor]] = {}
        self.many_tags = False
        self.spoiled: set[Digest] = set()
        self.reading = asyncio.Event()
        self.reading.set()
        self.being_read = asyncio.Event()
        self.open_reads = 0
        self.most_reads = 0

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        found = await super().head_manifest(
            repository, reference, known=known, for_write=for_write, confirm_missing=confirm_missing
        )
        self._fail(reference)
        return found

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        found = await super().get_manifest(repository, reference)
        self._fail(reference)
        return found

    async def put_manifest(
        self, repository: RepositoryName, manifest: Manifest, tag: Tag | None = None, **terms: Any
    ) -> None:
        self._fail(manifest.digest)
        if tag is not None:
            self._fail(tag)
        await super().put_manifest(repository, manifest, tag, **terms)
        self.log.append(f"manifest {manifest.digest}" if tag is None else f"tag {tag}")

    async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        found = await super().list_tags_within(repository, requests)
        return None if self.many_tags and requests == 1 else found

    async def list_referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        tags: Collection[Tag] | None = None,
    ) -> list[Descriptor]:
        found = await super().list_referrers(repository, digest, artifact_type, tags=tags)
        found = [] if digest in self.hidden_referrers else found + self.dangling.get(digest, [])
        if digest in self.referrer_failures:
            raise Incomplete(self.referrer_failures[digest], found)
        return found

    @asynccontextmanager
    async def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.open_reads += 1
        self.most_reads = max(self.most_reads, self.open_reads)
        try:
            self.being_read.set()
            self._fail(descriptor.digest)
            await self.reading.wait()
            async with super().read_blob(repository, descriptor, offset=offset) as chunks:
                yield _spoil(chunks) if descriptor.digest in self.spoiled else chunks
        finally:
            self.open_reads -= 1

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        self._fail(descriptor.digest)
        outcome = await super().write_blob(repository, descriptor, source, mount_from=mount_from, force=force)
        self.log.append(f"blob {descriptor.digest}")
        self.outcomes[descriptor.digest] = outcome
        return outcome

    async def tag(self, repository: RepositoryName, tag: Tag) -> Digest | None:
        """Return the digest that a tag points to, without faults."""
        found = await MemoryStore.head_manifest(self, repository, tag)
        return found.digest if found else None

    def _fail(self, what: str) -> None:
        if what in self.failures:
            self.on_failure(what)
            raise self.failures[what]


def route(
    source: MemoryStore, target: MemoryStore, *, to: RepositoryName = COPY, accepts: Acceptance | None = None
) -> Route:
    """Return a route from the repository `team/app`; by default, the target accepts everything."""
    return Route(
        source=source,
        source_repository=APP,
        target=target,
        target_repository=to,
        accepts=accepts or Acceptance(),
    )


async def _spoil(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield bytes(byte ^ 1 for byte in chunk)
