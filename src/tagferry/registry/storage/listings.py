"""The reads of a registry for lists: many in one turn of a thread, and no file again that is known and unchanged."""

import contextlib
import os
from collections.abc import Callable, Collection, Container, Sequence
from typing import TypeVar

from tagferry.concurrency import LatestResult
from tagferry.errors import NotFound, TagferryError
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import TagRecord
from tagferry.oci.model import Manifest
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.integrity import IntegrityChecker
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.repository_index import RepositoryIndex
from tagferry.registry.storage.tag_records import ContentState, ListedTags
from tagferry.registry.storage.threads import DiskThreads

Converted = TypeVar("Converted")


class Listings:
    """The reads of one registry for lists."""

    def __init__(
        self,
        layout: Layout,
        manifests: ManifestFiles,
        blobs: BlobFiles,
        integrity: IntegrityChecker,
        index: RepositoryIndex,
        threads: DiskThreads,
    ) -> None:
        self._layout = layout
        self._manifests = manifests
        self._blobs = blobs
        self._integrity = integrity
        self._threads = threads
        self._repositories = LatestResult(lambda: threads.run(index.names))

    async def repositories(self) -> Sequence[RepositoryName]:
        """Return the repositories that hold something, in lexical order, a list that must not be changed."""
        return await self._repositories.result()

    async def tags(self, repository: RepositoryName, manifests: Sequence[Digest] = ()) -> ListedTags:
        """Return the tags of a repository, and look at the files of these manifests; raises NotFound."""
        return await self._threads.run(self._tags, repository, manifests)

    async def confirm(self, repository: RepositoryName, records: Collection[TagRecord]) -> bool:
        """Return whether these tags are as they were listed, from a look at their files."""
        return await self._threads.run(self._manifests.tag_records.confirm, repository, records)

    async def states(self, repositories: Sequence[RepositoryName]) -> list[ContentState | None]:
        """Return the states of repositories; None for one that cannot be read."""
        return await self._threads.run(lambda: [self._state(repository) for repository in repositories])

    async def manifests(
        self,
        repository: RepositoryName,
        digests: Sequence[Digest],
        convert: Callable[[Manifest], Converted],
        *,
        known: Container[Digest],
        only_unknown: bool,
        budget: int,
    ) -> dict[Digest, Converted | TagferryError | OSError | None]:
        """Read manifests, and convert each in the thread, so that only one is in memory at once.

        Args:
            repository: the repository.
            digests: the manifests.
            convert: returns what the caller needs.
            known: manifests that were converted before. Their fields need not be read again.
            only_unknown: whether to return None for a known manifest whose file was verified and is unchanged.
            budget: bytes of unknown manifests after which no other one is read; these are left out.

        Returns:
            The results, or the error that reading or converting raised.
        """

        def work() -> dict[Digest, Converted | TagferryError | OSError | None]:
            left = budget
            found: dict[Digest, Converted | TagferryError | OSError | None] = {}
            for digest in digests:
                is_known = digest in known
                if left < 0 and not is_known:
                    continue
                try:
                    if is_known and (manifest := self._unchanged(repository, digest, is_needed=not only_unknown)):
                        found[digest] = convert(manifest) if isinstance(manifest, Manifest) else None
                        continue
                    manifest = self._manifests.read(repository, digest)
                    left -= manifest.size
                    found[digest] = convert(manifest)
                except (TagferryError, OSError) as error:
                    found[digest] = error
            return found

        return await self._threads.run(work)

    async def small_blobs(
        self, repository: RepositoryName, digests: Sequence[Digest], convert: Callable[[bytes], Converted]
    ) -> dict[Digest, Converted]:
        """Read small blobs, and convert each; those that cannot be read, or are not small, are left out."""

        def work() -> dict[Digest, Converted]:
            found = {}
            for digest in digests:
                with (
                    contextlib.suppress(TagferryError, OSError),
                    contextlib.closing(self._blobs.open(repository, digest)) as opened,
                ):
                    if opened.content is not None:
                        found[digest] = convert(opened.content)
            return found

        return await self._threads.run(work)

    def _tags(self, repository: RepositoryName, manifests: Sequence[Digest]) -> ListedTags:
        listed = self._manifests.tag_records.listed(repository)
        if not listed.records and not self._layout.holds_images(repository):
            raise NotFound("repository", repository)
        return listed._replace(are_unchanged=self._are_unchanged(repository, manifests)) if manifests else listed

    def _are_unchanged(self, repository: RepositoryName, manifests: Sequence[Digest]) -> bool:
        try:
            return all(self._unchanged(repository, digest, is_needed=False) for digest in manifests)
        except OSError:
            # Reading the manifest reports it.
            return False

    def _state(self, repository: RepositoryName) -> ContentState | None:
        try:
            return self._manifests.tag_records.state(repository, damages=self._integrity.damages)
        except OSError:
            # Reading the repository reports it.
            return None

    def _unchanged(self, repository: RepositoryName, digest: Digest, *, is_needed: bool) -> Manifest | bool | None:
        """Return a manifest from memory, or True if it is not needed; None if its file has to be read."""
        try:
            found = os.lstat(self._layout.manifest_file(repository, digest))
        except FileNotFoundError:
            return None
        if is_needed:
            return self._manifests.kept.find(digest, found)
        return self._integrity.is_trusted(found) or None
