"""An image store in an OCI layout.

A layout is one repository, whatever a caller names it. Referrers are listed as in a registry without the referrers API:
by an index under a tag that is derived from the subject's digest. Entries of the index without a name, which oras
writes, may be referrers, too. A layout only grows: nothing is deleted.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

from tagferry import bounds
from tagferry.errors import Conflict, Corrupt, Invalid, NotFound, Unsupported, WrongContent
from tagferry.layout.content import needed_content
from tagferry.layout.files import Draft, LayoutFiles, OpenFile, blob_name
from tagferry.layout.index import Entry, LayoutIndex
from tagferry.layout.index_file import IndexFile
from tagferry.layout.referrers import is_referrer, lists_referrers, with_referrer
from tagferry.layout.threads import LayoutThreads
from tagferry.layout.verified import KeptStamps, VerifiedContent
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome, OpenBlob, TagRecord, may_be_replaced, tag_changed
from tagferry.oci.model import OCI_INDEX, Descriptor, Manifest, parse_manifest
from tagferry.oci.referrer_tags import referrers_tag

_CHUNK = 1024 * 1024
_AGAIN = "copy the image there again"


class LayoutStore:
    """An `ImageStore` in an OCI layout; belongs to one event loop.

    Args:
        files: the layout's files.
        name: its name in messages.
        kept: keeps between runs which files of a target were verified; None to forget it.
    """

    def __init__(self, files: LayoutFiles, *, name: str, kept: KeptStamps | None = None) -> None:
        self._files = files
        self._verified = VerifiedContent(files, kept)
        self._name = name
        self._threads = LayoutThreads(name)
        self._index = IndexFile(files, self._threads, name=name)
        self._manifests: dict[Digest, Descriptor | None] = {}
        self._subjects: dict[Digest, Manifest | None] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def address(self) -> str:
        return self._name

    @property
    def identity(self) -> int:
        return 0

    def allow_writes(self) -> None:
        """Declare that the layout will be written to; until then it is only read."""
        self._files.allow_writes()
        self._index.forget()

    async def find(self, name: str) -> Entry:
        """Return the image with this name, or the only image of the layout if the name is empty.

        Raises:
            NotFound: there is no such image.
            Conflict: the name does not decide which of several images is meant.
        """
        index = await self._index.require()
        if name:
            entry = index.named(name)
            if entry is None:
                raise NotFound("tag", f"{self._name}:{name}", _names_hint(index))
            return entry
        images: dict[Digest, Entry] = {}
        for entry in index.entries:
            if is_referrer(entry) or not (entry.name or await self._with_subject(entry.descriptor) is None):
                continue
            # Of several entries of one image, one with a tag.
            if entry.descriptor.digest not in images or images[entry.descriptor.digest].tag is None:
                images[entry.descriptor.digest] = entry
        if len(images) != 1:
            raise Conflict("name", f"{self._name} has {len(images)} images; {_names_hint(index) or 'name one of them'}")
        return next(iter(images.values()))

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        listed: Descriptor | None = None
        if isinstance(reference, Tag):
            entry = (await self._index.read()).named(reference)
            if entry is None:
                return None
            listed = entry.descriptor
            reference = listed.digest
        try:
            return await self._stat_manifest(reference, listed)
        except Corrupt:
            if not for_write:
                raise
            # A target gets its damaged manifest again.
            return None

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        index = await self._index.require()
        if isinstance(reference, Tag):
            entry = index.named(reference)
            if entry is None:
                raise NotFound("tag", f"{self._name}:{reference}", _names_hint(index))
            return await self._require_manifest(entry.descriptor.digest, entry.descriptor)
        entry = index.with_digest(reference)
        return await self._require_manifest(reference, entry.descriptor if entry else None)

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None = None,
        *,
        override: bool = True,
        seen: Digest | None = None,
    ) -> None:
        await self._require_content(manifest)
        await self._threads.run(self._files.add, manifest.descriptor, manifest.raw)
        self._manifests[manifest.digest] = manifest.descriptor
        if manifest.subject is not None:
            await self._index.update(partial(with_referrer, self._files, self._name, manifest))
        if tag is None:
            return

        def with_tag(index: LayoutIndex) -> LayoutIndex:
            current = index.named(tag)
            digest = current.descriptor.digest if current else None
            if not override and not may_be_replaced(digest, manifest, seen):
                raise tag_changed(repository, tag)
            return index.with_tag(tag, manifest.descriptor)

        await self._index.update(with_tag)

    async def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        descriptor = await self._stat_manifest(digest, None)
        if descriptor is None:
            return True

        def has_defects(holds: Callable[[Descriptor], bool]) -> bool:
            return bool(needed_content(self._files, [descriptor], holds=holds).defective)

        return await self._verifying(has_defects)

    async def _verifying(self, work: Callable[[Callable[[Descriptor], bool]], bool]) -> bool:
        """Run work that may read blobs, with `VerifiedContent.holds`; it ends early if the caller is cancelled."""
        stopping = threading.Event()
        running = asyncio.ensure_future(self._threads.run(work, partial(self._verified.holds, stopping=stopping)))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stopping.set()
            await asyncio.wait([running])
            running.exception()
            raise

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        self._refuse_deletion()

    async def delete_repository(self, repository: RepositoryName) -> None:
        self._refuse_deletion()

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        self._refuse_deletion()

    def _refuse_deletion(self) -> NoReturn:
        raise Unsupported(f"{self._name}: nothing can be deleted from an OCI layout")

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int | None:
        if self._verified.is_known_wrong(digest):
            return None
        return await self._threads.run(self._files.size, blob_name(digest))

    @asynccontextmanager
    async def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        file = await self._threads.run(self._files.open, blob_name(descriptor.digest))
        if file is None:
            raise NotFound("blob", f"{self._name}@{descriptor.digest}", _AGAIN)
        try:
            yield self._chunks(file, offset)
        finally:
            file.close()

    async def _chunks(self, file: OpenFile, offset: int) -> AsyncIterator[bytes]:
        while chunk := await self._threads.run(file.read, offset, _CHUNK):
            offset += len(chunk)
            yield chunk

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        if not force and await self._verifying(lambda holds: holds(descriptor)):
            return BlobOutcome.PRESENT
        if not await self._fetch(descriptor, source):
            # The bytes of an earlier process did not belong to this blob.
            await self._fetch(descriptor, source)
        return BlobOutcome.UPLOADED

    async def _fetch(self, blob: Descriptor, source: OpenBlob) -> bool:
        """Write a blob; return False if only the bytes of an earlier process may be wrong."""
        draft = await self._threads.run(self._files.draft, blob)
        resumed_from, keep = draft.size, True
        try:
            if resumed_from < blob.size or not blob.size:
                async with source(resumed_from) as chunks:
                    await self._append(draft, chunks)
            await self._threads.run(self._commit_draft, draft, blob.digest)
        except Corrupt:
            keep = False
            if not resumed_from:
                raise
            return False
        else:
            return True
        finally:
            # After any other error, a later attempt continues here.
            draft.close(keep=keep)

    def _commit_draft(self, draft: Draft, digest: Digest) -> None:
        draft.commit()
        self._verified.written(digest)

    async def _append(self, draft: Draft, chunks: AsyncIterator[bytes]) -> None:
        waiting: list[bytes] = []
        size = 0
        try:
            async for chunk in chunks:
                waiting.append(chunk)
                size += len(chunk)
                if size >= _CHUNK:
                    content, waiting, size = b"".join(waiting), [], 0
                    await self._threads.run(draft.write, content)
        finally:
            if waiting:
                await self._threads.run(draft.write, b"".join(waiting))

    async def list_tags(self, repository: RepositoryName) -> AsyncIterator[Tag]:
        for tag, _ in self._tags(await self._index.require()):
            yield tag

    async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        return frozenset(tag for tag, _ in self._tags(await self._index.read()))

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        index = await self._index.require() if only is None else await self._index.read()
        return [
            TagRecord(tag=tag, digest=entry.descriptor.digest)
            for tag, entry in self._tags(index)
            if only is None or tag in only
        ]

    def _tags(self, index: LayoutIndex) -> Iterator[tuple[Tag, Entry]]:
        return ((tag, entry) for tag, entry in index.tags if not lists_referrers(entry))

    async def list_repositories(self) -> AsyncIterator[RepositoryName]:
        raise Unsupported(f"{self._name}: an OCI layout is one repository without a name")
        yield  # type: ignore[unreachable]

    async def list_referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        tags: Collection[Tag] | None = None,
    ) -> list[Descriptor]:
        index = await self._index.read()
        listed: dict[Digest, Descriptor] = {}
        entry = index.named(referrers_tag(digest))
        if entry is not None and entry.descriptor.media_type == OCI_INDEX:
            manifest = await self._require_manifest(entry.descriptor.digest, entry.descriptor)
            listed = {one.digest: one for one in manifest.listed}
        for one in index.entries:
            if not one.name and (referrer := await self._with_subject(one.descriptor)) is not None:
                subject = referrer.subject
                if subject is not None and subject.digest == digest:
                    listed.setdefault(referrer.digest, referrer.referrer_descriptor)
        return [one for one in listed.values() if artifact_type in (None, one.artifact_type)]

    async def commit(self) -> None:
        """Make everything that was written part of the layout; an archive is written only now."""
        await self._threads.run(self._commit)

    def _commit(self) -> None:
        right = self._verified.right() if self._files.is_rewritten else ()
        self._files.commit()
        self._verified.moved(right)

    async def close(self) -> None:
        await self._threads.run(self._verified.save)
        await self._threads.run(self._files.close)

    async def _with_subject(self, descriptor: Descriptor) -> Manifest | None:
        """Return a manifest if it has a subject."""
        if descriptor.digest not in self._subjects:
            try:
                manifest = await self._require_manifest(descriptor.digest, descriptor)
            except (NotFound, Invalid, Unsupported):
                self._subjects[descriptor.digest] = None
            else:
                self._subjects[descriptor.digest] = manifest if manifest.subject else None
        return self._subjects[descriptor.digest]

    async def _stat_manifest(self, digest: Digest, listed: Descriptor | None) -> Descriptor | None:
        if digest not in self._manifests:
            try:
                manifest = await self._require_manifest(digest, listed)
            except (NotFound, Invalid, Unsupported):
                return None
            self._manifests[digest] = manifest.descriptor
        return self._manifests[digest]

    async def _require_manifest(self, digest: Digest, listed: Descriptor | None) -> Manifest:
        content = await self._threads.run(self._files.read, blob_name(digest), bounds.MANIFEST_BYTES)
        if content is None:
            raise NotFound("manifest", f"{self._name}@{digest}", _AGAIN)
        if len(content) > bounds.MANIFEST_BYTES:
            raise Invalid("manifest", f"must have at most {bounds.MANIFEST_BYTES} bytes")
        try:
            return await parse_manifest(content, listed.media_type if listed else None, digest=digest)
        except Corrupt as error:
            raise WrongContent(f"{self._name} holds wrong bytes: {error.message}; {_AGAIN}") from error

    async def _require_content(self, manifest: Manifest) -> None:
        """Raise NotFound if the layout lacks something that the manifest needs."""
        needed = [blob for blob in manifest.blobs if not blob.is_foreign]
        for kind, one in (*(("blob", blob) for blob in needed), *(("manifest", child) for child in manifest.children)):
            if await self._threads.run(self._files.size, blob_name(one.digest)) is None:
                raise NotFound(kind, f"{self._name}@{one.digest}", _AGAIN)


def _names_hint(index: LayoutIndex) -> str:
    names = sorted({entry.name for entry in index.entries if entry.name and not is_referrer(entry)})
    return f"it has {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" if names else ""
