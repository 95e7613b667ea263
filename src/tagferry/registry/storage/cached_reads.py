"""Answer reads from memory, in the event loop: what was verified before, as long as its file is unchanged.

All methods raise NotCached when the answer may need the disk, or anything is unusual: a file that is missing, was never
verified, or has changed. Then a thread reads it (`manifests`, `blobs`).
"""

import io
import os
import time

from tagferry.errors import InvalidName
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tagferry.registry.storage.blobs import FRESH_SECONDS, OpenedBlob
from tagferry.registry.storage.integrity import SMALL_BLOB_BYTES, IntegrityChecker
from tagferry.registry.storage.kept_manifests import KeptManifests
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.page_cache import NotCached, PageCache
from tagferry.registry.storage.tag_names import TagNames

_MAX_TAG_FILE_BYTES = 200


class CachedReads:
    """The reads of one registry that need no thread."""

    def __init__(
        self,
        layout: Layout,
        integrity: IntegrityChecker,
        manifests: KeptManifests,
        tag_names: TagNames,
        page_cache: PageCache,
    ) -> None:
        self._layout = layout
        self._integrity = integrity
        self._manifests = manifests
        self._tag_names = tag_names
        self._page_cache = page_cache

    def manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """Return a manifest as stored, with its subject. A tag is read each time, so it is always the current one."""
        try:
            digest = self._pointed_to(repository, reference) if isinstance(reference, Tag) else reference
            found = self._page_cache.status(self._layout.manifest_file(repository, digest))
        except FileNotFoundError:
            raise NotCached from None
        manifest = self._manifests.find(digest, found)
        if manifest is None:
            raise NotCached
        return manifest

    def blob_size(self, repository: RepositoryName, digest: Digest) -> int | None:
        """Return the size of a blob, or None if the repository does not hold it."""
        try:
            found = self._page_cache.status(self._layout.blob_file(repository, digest))
        except FileNotFoundError:
            return None
        if not self._integrity.is_trusted(found) or time.time() - found.st_mtime > FRESH_SECONDS:
            raise NotCached
        return found.st_size

    def open_blob(self, repository: RepositoryName, digest: Digest) -> OpenedBlob:
        """Open a verified blob, and read a small one."""
        try:
            descriptor = self._page_cache.open(self._layout.blob_file(repository, digest))
        except FileNotFoundError:
            raise NotCached from None
        try:
            found = os.fstat(descriptor)
            if not self._integrity.is_trusted(found):
                raise NotCached
            content = None
            if found.st_size <= SMALL_BLOB_BYTES:
                content = self._page_cache.read(descriptor, found.st_size)
                if len(content) < found.st_size:
                    raise NotCached
        except BaseException:
            os.close(descriptor)
            raise
        return OpenedBlob(io.FileIO(descriptor), found, content, is_verified=True)

    def names_of_tags(self, repository: RepositoryName) -> list[Tag]:
        """Return the tags in lexical order, a list that must not be changed."""
        directory = self._layout.tags_directory(repository)
        try:
            names = self._tag_names.kept(directory, self._page_cache.status(directory))
        except FileNotFoundError:
            raise NotCached from None
        if not names:
            raise NotCached
        return names

    def has_referrers(self, repository: RepositoryName, subject: Digest) -> bool:
        """Return whether there is a directory for the referrers of a manifest; it may be empty."""
        try:
            self._page_cache.status(self._layout.referrers_directory(repository, subject))
        except FileNotFoundError:
            return False
        return True

    def _pointed_to(self, repository: RepositoryName, tag: Tag) -> Digest:
        descriptor = self._page_cache.open(self._layout.tag_file(repository, tag))
        try:
            return Digest(self._page_cache.read(descriptor, _MAX_TAG_FILE_BYTES).decode("latin-1"))
        except InvalidName:
            raise NotCached from None
        finally:
            os.close(descriptor)
