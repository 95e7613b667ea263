"""An image store in memory that counts every operation."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tagferry.errors import NotFound
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome, OpenBlob, TagRecord, may_be_replaced, tag_changed
from tagferry.oci.model import Descriptor, Manifest
from tagferry.oci.refusal import manifest_refused
from tagferry.oci.verify import verified

CHUNK = 64 * 1024


@dataclass
class _Contents:
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    tags: dict[Tag, TagRecord] = field(default_factory=dict)


class MemoryStore:
    """An image store that keeps its content in dictionaries.

    Attributes:
        counts: how often each method of the contract was called, by its name.
        moved: bytes that write_blob took from its sources.
        refused_types: media types of manifests that it does not take.
    """

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self._repositories: dict[RepositoryName, _Contents] = {}
        self.counts: Counter[str] = Counter()
        self.moved = 0
        self.refused_types: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self._name

    @property
    def address(self) -> str:
        return self._name

    @property
    def identity(self) -> int:
        return 0

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        await self._enter("head_manifest")
        manifest = self._find(repository, reference)
        return manifest.descriptor if manifest else None

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        await self._enter("get_manifest")
        return self._require(repository, reference)

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None = None,
        *,
        override: bool = True,
        seen: Digest | None = None,
    ) -> None:
        await self._enter("put_manifest")
        standing = self._find(repository, tag) if tag is not None and not override else None
        if tag is not None and standing is not None and not may_be_replaced(standing.digest, manifest, seen):
            raise tag_changed(repository, tag)
        if manifest.media_type in self.refused_types:
            raise manifest_refused(self.name, manifest)
        contents = self._contents(repository)
        for blob in manifest.blobs:
            if not blob.is_foreign and blob.digest not in contents.blobs:
                raise NotFound("blob", blob.digest)
        for child in manifest.children:
            is_blob = not child.is_known_manifest and child.digest in contents.blobs
            if not is_blob and child.digest not in contents.manifests:
                raise NotFound("manifest", child.digest)
        contents = self._repositories.setdefault(repository, contents)
        contents.manifests[manifest.digest] = manifest
        if tag is not None:
            contents.tags[tag] = TagRecord(tag=tag, digest=manifest.digest, updated=datetime.now(UTC))

    async def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        return False

    async def refuses(self, manifest: Manifest) -> bool:
        return manifest.media_type in self.refused_types

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        await self._enter("delete_manifest")
        self._require(repository, reference)
        contents = self._contents(repository)
        if isinstance(reference, Tag):
            if seen is not None and contents.tags[reference] != seen:
                raise tag_changed(repository, reference)
            del contents.tags[reference]
            return
        del contents.manifests[reference]
        contents.tags = {tag: record for tag, record in contents.tags.items() if record.digest != reference}

    async def delete_repository(self, repository: RepositoryName) -> None:
        await self._enter("delete_repository")
        if self._repositories.pop(repository, None) is None:
            raise NotFound("repository", repository)

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int | None:
        await self._enter("stat_blob")
        content = self._contents(repository).blobs.get(digest)
        return None if content is None else len(content)

    @asynccontextmanager
    async def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._enter("read_blob")
        content = self._contents(repository).blobs.get(descriptor.digest)
        if content is None:
            raise NotFound("blob", f"{repository}@{descriptor.digest}")
        yield _chunks(content[offset:])

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        await self._enter("write_blob")
        if not force and descriptor.digest in self._contents(repository).blobs:
            return BlobOutcome.PRESENT
        mounted = self._contents(mount_from).blobs.get(descriptor.digest) if mount_from and not force else None
        if mounted is not None:
            self._repositories.setdefault(repository, _Contents()).blobs[descriptor.digest] = mounted
            return BlobOutcome.MOUNTED
        async with source(0) as chunks:
            content = b"".join([chunk async for chunk in verified(chunks, descriptor)])
        self.moved += len(content)
        self._repositories.setdefault(repository, _Contents()).blobs[descriptor.digest] = content
        return BlobOutcome.UPLOADED

    async def list_tags(self, repository: RepositoryName) -> AsyncIterator[Tag]:
        await self._enter("list_tags")
        for record in self._records(repository):
            yield record.tag

    async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        await self._enter("list_tags_within")
        if repository not in self._repositories:
            return frozenset()
        return frozenset(record.tag for record in self._records(repository))

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        await self._enter("describe_tags")
        if only is not None and repository not in self._repositories:
            return []
        return [record for record in self._records(repository) if only is None or record.tag in only]

    async def list_repositories(self) -> AsyncIterator[RepositoryName]:
        await self._enter("list_repositories")
        for repository in sorted(self._repositories):
            yield repository

    async def list_referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        tags: Collection[Tag] | None = None,
    ) -> list[Descriptor]:
        await self._enter("list_referrers")
        manifests = self._contents(repository).manifests.values()
        listed = [m.referrer_descriptor for m in manifests if m.subject and m.subject.digest == digest]
        return [found for found in listed if artifact_type in (None, found.artifact_type)]

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        await self._enter("delete_blob")
        if self._contents(repository).blobs.pop(digest, None) is None:
            raise NotFound("blob", f"{repository}@{digest}")

    async def close(self) -> None:
        self.counts["close"] += 1

    async def _enter(self, operation: str) -> None:
        """Count the call, and let other tasks run, as I/O would."""
        self.counts[operation] += 1
        await asyncio.sleep(0)

    def _contents(self, repository: RepositoryName) -> _Contents:
        return self._repositories.get(repository) or _Contents()

    def _records(self, repository: RepositoryName) -> list[TagRecord]:
        if repository not in self._repositories:
            raise NotFound("repository", repository)
        return [record for _, record in sorted(self._contents(repository).tags.items())]

    def _find(self, repository: RepositoryName, reference: Reference) -> Manifest | None:
        contents = self._contents(repository)
        if isinstance(reference, Digest):
            return contents.manifests.get(reference)
        record = contents.tags.get(reference)
        return contents.manifests.get(record.digest) if record else None

    def _require(self, repository: RepositoryName, reference: Reference) -> Manifest:
        manifest = self._find(repository, reference)
        if manifest is not None:
            return manifest
        if repository not in self._repositories:
            raise NotFound("repository", repository)
        kind = "manifest" if isinstance(reference, Digest) else "tag"
        raise NotFound(kind, f"{repository}:{reference}")


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]
        await asyncio.sleep(0)
