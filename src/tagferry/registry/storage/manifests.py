"""Manifests and tags on disk.

All functions block; they run in the disk's threads. Functions that change a repository run under its lock.
"""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tagferry import bounds
from tagferry.errors import Corrupt, Invalid, InvalidName, NotFound, TagferryError
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.dates import date_from_timestamp
from tagferry.oci.images import TagRecord, tag_changed
from tagferry.oci.model import MANIFEST_TYPES, Descriptor, Manifest
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import (
    concerns_file,
    failed_syncs,
    files_below,
    open_file,
    remove_entry,
    sync_directory,
)
from tagferry.registry.storage.integrity import Damage, IntegrityChecker, is_marked
from tagferry.registry.storage.kept_manifests import KeptManifests
from tagferry.registry.storage.layout import Layout, digest_in, digest_of, tag_of
from tagferry.registry.storage.referrers import ReferrerEntries
from tagferry.registry.storage.tag_names import TagNames
from tagferry.registry.storage.tag_records import TagRecords

_MAX_HEAD_BYTES = bounds.MEDIA_TYPE_CHARACTERS + 1
_MAX_FILE_BYTES = _MAX_HEAD_BYTES + bounds.MANIFEST_BYTES
_MAX_TAG_FILE_BYTES = 200
_CACHED_MANIFESTS, _CACHED_REFERENCES = 2000, 200
"""The most manifests whose references are cached, and the most references of one of them."""


class _Stored(NamedTuple):
    """The content of a manifest's file; `raw` may be cut if only the head was read, `size` is the manifest's."""

    found: os.stat_result
    media_type: str
    size: int
    raw: bytes


class ManifestFiles:
    """The manifests of one registry.

    Attributes:
        referrers: the entries of manifests that have a subject.
        tag_cache: the names of tags that were read before.
        tag_records: the tags that were read before.
        kept: manifests that were read or written before.
    """

    def __init__(self, layout: Layout, blobs: BlobFiles, integrity: IntegrityChecker) -> None:
        self._layout = layout
        self._blobs = blobs
        self._integrity = integrity
        self.tag_cache = TagNames()
        self.tag_records = TagRecords(layout, self._record)
        self.kept = KeptManifests(integrity)
        self.referrers = ReferrerEntries(layout, integrity, self.read)
        self._lock = Lock()
        self._reference_cache: dict[Digest, tuple[tuple[Digest, ...], tuple[Digest, ...]]] = {}

    def describe(self, repository: RepositoryName, reference: Reference) -> Descriptor | None:
        """Return the descriptor of a manifest; None if it is missing or damaged."""
        digest = self._resolve(repository, reference)
        if digest is None:
            return None
        try:
            stored = self._load(repository, digest, only_head=True)
        except Corrupt:
            return None
        return stored and Descriptor(media_type=stored.media_type, digest=digest, size=stored.size)

    def read(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """Return a verified manifest; raises NotFound, Corrupt, and the errors of `Manifest.parse`."""
        stored = self.read_stored(repository, reference)
        return Manifest.parse(stored.raw, stored.media_type, digest=stored.digest)

    def read_stored(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """Return a manifest as stored; its digest is verified, but it need not satisfy today's rules for manifests.

        Raises:
            NotFound, Corrupt: as `read`.
        """
        digest = self._resolve(repository, reference)
        if digest is None and isinstance(reference, Tag) and os.path.lexists(self._layout.tag(repository, reference)):
            raise Corrupt(f'tag "{reference}" of "{repository}" is damaged on the registry\'s disk')
        stored = self._load(repository, digest) if digest is not None else None
        if digest is None or stored is None:
            raise self._not_found(repository, reference)
        manifest = Manifest(raw=stored.raw, media_type=stored.media_type, digest=digest)
        with contextlib.suppress(Invalid):
            # Parsed here rather than in the event loop.
            _ = manifest.subject
        self.kept.keep(stored.found, manifest)
        return manifest

    def delete(self, repository: RepositoryName, reference: Reference, seen: TagRecord | None = None) -> None:
        """Delete a tag, or a manifest with its tags and its referrer entry.

        Raises:
            NotFound: it does not exist.
            Conflict: the tag has changed since it was `seen`.
        """
        if isinstance(reference, Tag):
            if seen is not None and self._record(repository, reference) not in (seen, None):
                raise tag_changed(repository, reference)
            self._delete_tag(repository, reference)
            return
        path = self._layout.manifest(repository, reference)
        try:
            stored = self._load(repository, reference)
        except Corrupt:
            entries_of_it = self.referrers.entries_named(repository, reference)
        else:
            if stored is None:
                raise self._not_found(repository, reference)
            entries_of_it = self.referrers.entries_of(repository, Manifest(stored.raw, stored.media_type, reference))
        # Tags are deleted first, so that no tag ever points to a missing manifest.
        for record in self.tags(repository):
            if record.digest == reference:
                self._delete_tag(repository, record.tag)
        failed_before = failed_syncs(path.parent)
        for one in (path, *entries_of_it):
            with contextlib.suppress(FileNotFoundError):
                remove_entry(one)
            if one == path:
                sync_directory(path.parent, failed_before=failed_before)

    def delete_all(self, repository: RepositoryName) -> None:
        """Delete all tags, manifests and referrer entries; raises NotFound."""
        if not self._layout.holds_images(repository):
            raise NotFound("repository", repository)
        directory = self._layout.repository(repository)
        # Tags are deleted first, and durably, so that no tag ever points to a missing manifest.
        for kind in ("_tags", "_manifests", "_referrers"):
            files = [path for path in files_below(directory / kind) if _is_own(kind, path)]
            failed_before = {folder: failed_syncs(folder) for folder in {path.parent for path in files}}
            for path in files:
                path.unlink(missing_ok=True)
                if kind == "_tags":
                    self._integrity.forget(Damage("tag", path.name, repository))
            for folder, failed in failed_before.items():
                sync_directory(folder, failed_before=failed)

    def tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        """Return the tags in lexical order; with `only`, just those that exist. Raises NotFound without `only`."""
        if only is not None:
            return [record for name in sorted(only) if (record := self._record(repository, name)) is not None]
        records = self.tag_records.all(repository)
        if not records and not self._layout.holds_images(repository):
            raise NotFound("repository", repository)
        return list(records)

    def tag_names(self, repository: RepositoryName) -> list[Tag]:
        """Return the names of the tags in lexical order; raises NotFound."""
        names = self.tag_cache.inside(self._layout.tags_directory(repository))
        if not names and not self._layout.holds_images(repository):
            raise NotFound("repository", repository)
        return names

    def damaged_tags(self, repository: RepositoryName) -> list[Tag]:
        """Return the tags whose file is damaged."""
        names = self.tag_cache.inside(self._layout.tags_directory(repository))
        return [tag for tag in names if self._record(repository, tag) is None]

    def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a manifest or its content exists and is damaged, as far as small reads show it."""
        left, seen = [digest], {digest}
        while left:
            one = left.pop()
            try:
                if not self._is_kept(repository, one) and self._load(repository, one, only_head=True) is None:
                    continue
                blobs, children = self._references(repository, one)
            except Corrupt:
                return True
            except TagferryError:
                continue
            if any(self._blobs.is_damaged(repository, blob) for blob in blobs):
                return True
            left += [child for child in children if child not in seen]
            seen.update(children)
        return False

    def _is_kept(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a verified manifest is kept in memory, and its file is unchanged."""
        try:
            return self.kept.find(digest, os.lstat(self._layout.manifest_file(repository, digest))) is not None
        except OSError:
            return False

    def _references(self, repository: RepositoryName, digest: Digest) -> tuple[tuple[Digest, ...], tuple[Digest, ...]]:
        """Return the blobs and manifests that a manifest refers to, which are cached by its digest."""
        found = self._reference_cache.get(digest)
        if found is None:
            manifest = self.read(repository, digest)
            blobs, children = (dict.fromkeys(one.digest for one in of) for of in (manifest.blobs, manifest.children))
            found = tuple(blobs), tuple(children)
            if sum(map(len, found)) <= _CACHED_REFERENCES:
                with self._lock:
                    self._reference_cache[digest] = found
                    while len(self._reference_cache) > _CACHED_MANIFESTS:
                        del self._reference_cache[next(iter(self._reference_cache))]
        return found

    def is_expected(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a manifest exists, damaged or not, or a tag points to it."""
        return os.path.lexists(self._layout.manifest(repository, digest)) or digest in self.missing(repository)

    def missing(self, repository: RepositoryName) -> list[Digest]:
        """Return the missing manifests that tags point to; deletions never leave such tags."""
        names = self.tag_cache.inside(self._layout.tags_directory(repository))
        pointed_to = {record.digest for tag in names if (record := self._record(repository, tag))}
        return sorted(one for one in pointed_to if not os.path.lexists(self._layout.manifest(repository, one)))

    def referenced_blobs(self, repository: RepositoryName) -> set[Digest]:
        """Return all digests that the manifests of a repository refer to, including manifests in indexes."""
        manifests = (self.read(repository, digest) for digest in self._layout.digests(repository, "_manifests"))
        return {one.digest for manifest in manifests for one in (*manifest.blobs, *manifest.listed)}

    def readable_references(self, repository: RepositoryName) -> set[Digest]:
        """Return the blobs that the readable manifests of a repository refer to."""
        needed: set[Digest] = set()
        for digest in self._layout.digests(repository, "_manifests"):
            with contextlib.suppress(TagferryError):
                needed |= {blob.digest for blob in self.read(repository, digest).blobs}
        return needed

    def _load(self, repository: RepositoryName, digest: Digest, *, only_head: bool = False) -> _Stored | None:
        """Read and verify the file of a manifest; None if it does not exist.

        Args:
            repository: the repository.
            digest: the manifest's digest.
            only_head: whether to read only the head of a file that is verified already.

        Raises:
            Corrupt: the file is damaged; it is marked.
        """
        path = self._layout.manifest(repository, digest)
        for _ in range(3):
            content, is_verified = b"", False
            try:
                with open_file(path) as file:
                    found = os.fstat(file.fileno())
                    if self._integrity.is_known_damaged(found):
                        break
                    is_verified = self._integrity.is_verified(found)
                    if is_verified or not is_marked(found):
                        content = file.read(_MAX_HEAD_BYTES if only_head and is_verified else _MAX_FILE_BYTES)
            except FileNotFoundError:
                return None
            except OSError as error:
                if not concerns_file(error):
                    raise
            head, _, raw = content.partition(b"\n")
            media_type = head.decode("latin-1")
            if content and media_type not in MANIFEST_TYPES:
                self._integrity.mark(path, Damage("manifest", digest, repository))
                break
            if is_verified and content:
                return _Stored(found, media_type, found.st_size - len(head) - 1, raw)
            if content and Digest.of(raw, digest.algorithm) == digest:
                self._integrity.remember(found)
                return _Stored(found, media_type, len(raw), raw)
            if not self._integrity.check(path, digest, kind="manifest", repository=repository):
                break
        raise Corrupt(f'manifest "{digest}" of "{repository}" is damaged on the registry\'s disk')

    def _resolve(self, repository: RepositoryName, reference: Reference) -> Digest | None:
        if isinstance(reference, Digest):
            return reference
        record = self._record(repository, reference)
        return record and record.digest

    def _record(self, repository: RepositoryName, tag: Tag) -> TagRecord | None:
        """Return what a tag points to; None if it is missing or damaged."""
        try:
            with open_file(self._layout.tag(repository, tag)) as file:
                content = file.read(_MAX_TAG_FILE_BYTES)
                updated = date_from_timestamp(os.fstat(file.fileno()).st_mtime)
            digest = Digest(content.decode("latin-1"))
        except FileNotFoundError:
            return None
        except (OSError, InvalidName) as error:
            if isinstance(error, OSError) and not concerns_file(error):
                raise
            self._integrity.report(Damage("tag", tag, repository))
            return None
        return TagRecord(tag=tag, digest=digest, updated=updated)

    def _delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        path = self._layout.tag(repository, tag)
        failed_before = failed_syncs(path.parent)
        try:
            remove_entry(path)
        except FileNotFoundError:
            raise self._not_found(repository, tag) from None
        sync_directory(path.parent, failed_before=failed_before)
        self._integrity.forget(Damage("tag", tag, repository))

    def _not_found(self, repository: RepositoryName, reference: Reference) -> NotFound:
        if not self._layout.holds_images(repository):
            return NotFound("repository", repository)
        kind = "tag" if isinstance(reference, Tag) else "manifest"
        return NotFound(kind, str(reference), where=f'of "{repository}"')


def _is_own(kind: str, path: Path) -> bool:
    """Return whether the registry gives files of this kind such a name."""
    match kind:
        case "_tags":
            return tag_of(path.name) is not None
        case "_manifests":
            return digest_of(path.parent.name, path.name) is not None
        case _:
            return digest_in(path.name) is not None
