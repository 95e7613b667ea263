"""Write manifests and tags, durably and in order. All functions block; they run in the disk's threads."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from tagferry import bounds
from tagferry.errors import Invalid, TagferryError, TooLarge
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import INDEX_TYPES, Manifest
from tagferry.registry.errors import MissingReference
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import open_file
from tagferry.registry.storage.integrity import Damage, IntegrityChecker, is_marked
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.syncing import Drafts, Placed, Syncing, UndurableNames


class ManifestWrites:
    """Writes the manifests of one registry.

    Args:
        layout, blobs, manifests, integrity, syncing: the registry's.
        lock: returns a repository's lock, which is held for changes, but not while they become durable.
    """

    def __init__(
        self,
        layout: Layout,
        blobs: BlobFiles,
        manifests: ManifestFiles,
        integrity: IntegrityChecker,
        syncing: Syncing,
        lock: Callable[[RepositoryName], AbstractContextManager[None]],
    ) -> None:
        self._layout = layout
        self._blobs = blobs
        self._manifests = manifests
        self._integrity = integrity
        self._syncing = syncing
        self._lock = lock
        self._undurable = UndurableNames()
        """Manifests and entries of referrers. Another write of the same manifest stores them again."""

    def write(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None,
        check: Callable[[], None],
        *,
        is_restored: bool = False,
    ) -> None:
        """Store a manifest and point a tag to it.

        Args:
            repository: the repository.
            manifest: the manifest.
            tag: the tag, if any.
            check: called under the repository's lock before anything changes; raises an error if nothing may.
            is_restored: whether the manifest was stored before, perhaps by a version that did not compare sizes.

        Raises:
            MissingReference: the repository lacks a blob or manifest that the manifest refers to.
            TooLarge: the manifest exceeds the limit.
            Invalid: the manifest nests too deep, or states a wrong size of a blob.
        """
        if manifest.size > bounds.MANIFEST_BYTES:
            raise TooLarge("manifest", f"must be at most {bounds.MANIFEST_BYTES} bytes long", manifest.size)

        def check_all() -> None:
            check()
            self._require_content(repository, manifest, sizes=not is_restored)
            self._require_shallow(repository, manifest)

        while not self._try_write(repository, manifest, tag, check, check_all):
            pass

    def _try_write(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None,
        check: Callable[[], None],
        check_all: Callable[[], None],
    ) -> bool:
        """Write a manifest and a tag; return False if an existing manifest has become unusable meanwhile."""
        path = self._layout.manifest_file(repository, manifest.digest)
        tag_path = self._layout.tag_file(repository, tag) if tag is not None else None
        content = manifest.media_type.encode() + b"\n" + manifest.raw
        children = [self._layout.manifest_file(repository, child.digest) for child in manifest.children]
        placed_before: list[str] = []
        lock = partial(self._lock, repository)
        with Drafts(self._syncing, self._layout.temporary_directory) as drafts:
            # A refusal need not wait for the disk.
            with self._settled(repository, children):
                check_all()
                is_missing = self._lacks(path, content)
                # An entry without its manifest is ignored, so it is first. No tag ever points to a missing manifest.
                files = self._manifests.referrers.files(repository, manifest)
                if is_missing:
                    files.append((path, content))
                if tag_path is not None:
                    files.append((tag_path, manifest.digest.encode()))
                # Under the lock, since threads that make many system calls at once keep each other waiting.
                for _, one in files:
                    drafts.write(one)
            drafts.sync()
            for target, _ in files:
                with self._settled(repository, (*children, *placed_before)):
                    (check if target == tag_path and is_missing else check_all)()
                    # A deletion or a garbage collection may have removed what this name relies on.
                    if any(map(self._is_lost, placed_before)):
                        return False
                    if target == tag_path and not is_missing and self._lacks(path, content):
                        return False
                    placed = drafts.place(target)
                    if target != tag_path:
                        self._undurable.add(placed)
                    if target == path:
                        self._record_written(placed, manifest)
                self._undurable.settle(placed, lock)
                placed_before.append(target)
                if target == path:
                    self._integrity.record_repair(Damage("manifest", manifest.digest, repository))
        if tag is not None:
            self._integrity.record_repair(Damage("tag", tag, repository))
        return True

    @contextmanager
    def _settled(self, repository: RepositoryName, names: Iterable[str]) -> Iterator[None]:
        """Hold the repository's lock while none of these names waits for the disk."""
        while True:
            with self._lock(repository):
                waiting = self._undurable.waiting(names)
                if not waiting:
                    yield
                    return
            for one in waiting:
                one.ended.wait()

    def _is_lost(self, path: str) -> bool:
        """Return whether a file that was written has been removed, or written again and perhaps not durably."""
        return path in self._undurable or not os.path.lexists(path)

    def _lacks(self, path: str, content: bytes) -> bool:
        """Return whether a manifest's file is missing, damaged or perhaps not durable."""
        return path in self._undurable or not _has_content(path, content)

    def _record_written(self, placed: Placed, manifest: Manifest) -> None:
        # An error must not prevent that the name is settled; reads look at the file again then.
        with contextlib.suppress(OSError):
            found = placed.found or os.lstat(placed.path)
            self._integrity.remember(found)
            self._manifests.kept.keep(found, manifest)

    def _require_content(self, repository: RepositoryName, manifest: Manifest, *, sizes: bool) -> None:
        # Many images repeat a layer, such as an empty one.
        found: dict[tuple[Digest, int], os.stat_result | None] = {}
        for blob in manifest.blobs:
            key = blob.digest, blob.size
            if key not in found:
                found[key] = self._blobs.find(repository, blob.digest, size=blob.size)
            held = found[key]
            if held is None and not blob.is_external:
                hint = f"push it to {repository} before the manifest"
                raise MissingReference("blob", blob.digest, hint)
            if sizes and held is not None and held.st_size != blob.size:
                # Clients would refuse to pull the image, and synchronizations to copy it.
                raise Invalid("descriptor.size", f"must be {held.st_size}, the bytes of blob {blob.digest}", blob.size)
        for child in manifest.children:
            is_blob = not child.is_known_manifest and self._blobs.holds(repository, child.digest, child.size)
            is_undurable = self._layout.manifest_file(repository, child.digest) in self._undurable
            if not is_blob and (is_undurable or self._manifests.describe(repository, child.digest) is None):
                hint = f"push it to {repository} before the index"
                raise MissingReference("manifest", child.digest, hint)

    def _require_shallow(self, repository: RepositoryName, manifest: Manifest) -> None:
        """Raise Invalid for an index that nests too deep, or refers to too much, to be copied."""
        level, seen, left = _indexes(manifest), set[Digest](), bounds.NESTED_INDEX_BYTES
        for _ in range(bounds.INDEX_DEPTH - 1):
            below: set[Digest] = set()
            for digest in level - seen:
                with contextlib.suppress(TagferryError):
                    index = self._manifests.read(repository, digest)
                    left -= index.size
                    below |= _indexes(index)
                if left < 0 or len(seen) >= bounds.IMAGE_MANIFESTS:
                    most = f"{bounds.IMAGE_MANIFESTS} nested indexes with {bounds.NESTED_INDEX_BYTES} bytes in total"
                    raise Invalid("manifests", f"must not contain more than {most}")
                seen.add(digest)
            level = below
        if level:
            raise Invalid("manifests", f"must not nest indexes more than {bounds.INDEX_DEPTH} levels deep")


def _has_content(path: str, content: bytes) -> bool:
    """Return whether an unmarked file has exactly this content."""
    try:
        with open_file(path) as file:
            return not is_marked(os.fstat(file.fileno())) and file.read(len(content) + 1) == content
    except OSError:
        return False


def _indexes(manifest: Manifest) -> set[Digest]:
    return {child.digest for child in manifest.children if child.media_type in INDEX_TYPES}
