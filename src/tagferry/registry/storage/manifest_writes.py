"""Write manifests and tags, durably and in order. All functions block; they run in the disk's threads."""

import contextlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from tagferry import bounds
from tagferry.errors import Invalid, TagferryError, TooLarge
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import INDEX_TYPES, Manifest
from tagferry.registry.errors import MissingReference
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import open_file
from tagferry.registry.storage.free_space import FreeSpace
from tagferry.registry.storage.integrity import Damage, IntegrityChecker, is_marked
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.syncing import Drafts, Placed, Syncing, UndurableNames

_WaitsFor = Drafts | Placed | list[Placed]
"""The things for which a write waits without the lock: its files, its own name, or the names of other writes."""


@dataclass(frozen=True, slots=True)
class ManifestWrite:
    """A manifest to store, and a tag to point to it.

    Attributes:
        manifest: the manifest.
        tag: the tag, if any.
        check: called under the repository's lock before anything changes; raises an error if nothing may.
        is_restored: whether the manifest was stored before, perhaps by a version that did not compare sizes.
    """

    manifest: Manifest
    tag: Tag | None
    check: Callable[[], None]
    is_restored: bool = False


class ManifestWrites:
    """Writes the manifests of one registry.

    Args:
        layout, blobs, manifests, integrity, syncing, free_space: the registry's.
        lock: returns a repository's lock, which is held for changes, but not while they become durable.
    """

    def __init__(
        self,
        layout: Layout,
        blobs: BlobFiles,
        manifests: ManifestFiles,
        integrity: IntegrityChecker,
        syncing: Syncing,
        free_space: FreeSpace,
        lock: Callable[[RepositoryName], AbstractContextManager[None]],
    ) -> None:
        self._layout = layout
        self._blobs = blobs
        self._manifests = manifests
        self._integrity = integrity
        self._syncing = syncing
        self._free_space = free_space
        self._lock = lock
        self._undurable = UndurableNames()
        """Manifests and entries of referrers. Another write of the same manifest stores them again."""

    def write(self, repository: RepositoryName, write: ManifestWrite) -> None:
        """Store one manifest, as `write_all` does; raises its error."""
        (error,) = self.write_all(repository, [write])
        if error is not None:
            raise error

    def write_all(self, repository: RepositoryName, writes: Sequence[ManifestWrite]) -> list[Exception | None]:
        """Store manifests, and return the error of each. They share the syncs of their directories.

        The errors are those of the disk, of the checks, and:

            MissingReference: the repository lacks a blob or manifest that the manifest refers to.
            TooLarge: the manifest exceeds the limit.
            Invalid: the manifest nests too deep, or states a wrong size of a blob.
        """
        lock = partial(self._lock, repository)
        errors: list[Exception | None] = [None] * len(writes)
        running = {number: self._steps(repository, one) for number, one in enumerate(writes)}
        failed: dict[int, Exception] = {}
        while running:
            drafts: dict[int, Drafts] = {}
            placed: dict[int, Placed] = {}
            others: list[Placed] = []
            # Under the lock, since threads that make many system calls at once keep each other waiting.
            with lock():
                for number, steps in list(running.items()):
                    try:
                        waits_for = steps.throw(failed[number]) if number in failed else next(steps)
                    except StopIteration:
                        del running[number]
                    except Exception as error:
                        del running[number]
                        errors[number] = error
                    else:
                        if isinstance(waits_for, Drafts):
                            drafts[number] = waits_for
                        elif isinstance(waits_for, Placed):
                            placed[number] = waits_for
                        else:
                            others += waits_for
            failed = self._sync(drafts) | self._settle(placed, lock)
            if others and not drafts and not placed:
                # Other threads make these durable, and wait for nothing of this one meanwhile.
                others[0].ended.wait()
        return errors

    def _sync(self, drafts: Mapping[int, Drafts]) -> dict[int, Exception]:
        """Make the files of some writes durable; return the errors of those that failed."""
        syncs = [(number, sync) for number, one in drafts.items() for sync in one.syncs()]
        errors = self._syncing.outcomes([sync for _, sync in syncs])
        return {number: error for (number, _), error in zip(syncs, errors, strict=True) if error is not None}

    def _settle(
        self, placed: Mapping[int, Placed], lock: Callable[[], AbstractContextManager[None]]
    ) -> dict[int, Exception]:
        """Make a name of some writes durable; return the errors of those that failed."""
        errors = self._undurable.settle(list(placed.values()), lock, self._syncing)
        return {number: error for number, error in zip(placed, errors, strict=True) if error is not None}

    def _steps(self, repository: RepositoryName, write: ManifestWrite) -> Generator[_WaitsFor, None, None]:
        """Write a manifest and a tag.

        It runs under the repository's lock, except while it waits for what it yields. An error of that is thrown here.
        """
        manifest = write.manifest
        if manifest.size > bounds.MANIFEST_BYTES:
            raise TooLarge("manifest", f"must be at most {bounds.MANIFEST_BYTES} bytes long", manifest.size)
        self._free_space.require(manifest.size)
        while not (yield from self._try_write(repository, write)):
            pass

    def _try_write(self, repository: RepositoryName, write: ManifestWrite) -> Generator[_WaitsFor, None, bool]:
        """Write a manifest and a tag; return False if an existing manifest has become unusable meanwhile."""
        manifest, tag, check = write.manifest, write.tag, write.check

        def check_all() -> None:
            check()
            self._require_content(repository, manifest, sizes=not write.is_restored)
            self._require_shallow(repository, manifest)

        path = self._layout.manifest_file(repository, manifest.digest)
        tag_path = self._layout.tag_file(repository, tag) if tag is not None else None
        content = manifest.media_type.encode() + b"\n" + manifest.raw
        children = [self._layout.manifest_file(repository, child.digest) for child in manifest.children]
        placed_before: list[str] = []
        with Drafts(self._layout.temporary_directory) as drafts:
            # A refusal need not wait for the disk.
            yield from self._settled(children)
            check_all()
            is_missing = self._lacks(path, content)
            # An entry without its manifest is ignored, so it is first. No tag ever points to a missing manifest.
            files = self._manifests.referrers.files(repository, manifest)
            if is_missing:
                files.append((path, content))
            if tag_path is not None:
                files.append((tag_path, manifest.digest.encode()))
            for _, one in files:
                drafts.write(one)
            yield drafts
            for target, _ in files:
                yield from self._settled((*children, *placed_before))
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
                yield placed
                placed_before.append(target)
                if target == path:
                    self._integrity.record_repair(Damage("manifest", manifest.digest, repository))
        if tag is not None:
            self._integrity.record_repair(Damage("tag", tag, repository))
        return True

    def _settled(self, names: Sequence[str]) -> Generator[list[Placed], None, None]:
        """Yield, as long as some of these names wait for the disk."""
        while waiting := self._undurable.waiting(names):
            yield waiting

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
