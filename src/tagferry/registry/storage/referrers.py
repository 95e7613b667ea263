"""Entries on disk that list the referrers of a subject, one for each manifest that names it.

All functions block. An entry without its manifest is ignored.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from tagferry import bounds
from tagferry.errors import Invalid, TagferryError
from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor, Manifest
from tagferry.registry.storage.files import entries, files_below, read_file, replace_file
from tagferry.registry.storage.integrity import Damage, IntegrityChecker, is_marked
from tagferry.registry.storage.layout import Layout, digest_in

_MAX_ENTRY_BYTES = bounds.MEDIA_TYPE_CHARACTERS + 1 + bounds.MANIFEST_BYTES


class ReferrerEntries:
    """The entries of one registry.

    Args:
        layout: the registry's paths.
        integrity: verifies files.
        read: reads a manifest; raises a TagferryError if it is missing, damaged or invalid.
    """

    def __init__(
        self, layout: Layout, integrity: IntegrityChecker, read: Callable[[RepositoryName, Digest], Manifest]
    ) -> None:
        self._layout = layout
        self._integrity = integrity
        self._read = read

    def files(self, repository: RepositoryName, manifest: Manifest) -> list[tuple[str, bytes]]:
        """Return the path and the content of a manifest's entry if it has a subject, otherwise nothing."""
        if manifest.subject is None:
            return []
        entry = self._layout.referrer(repository, manifest.subject.digest, manifest.digest)
        return [(str(entry), _content(manifest.referrer_descriptor))]

    def page(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_type: str | None = None,
        *,
        after: Digest | None = None,
        limit: int,
    ) -> tuple[list[Descriptor], bool]:
        """Return a page of referrers in the order of their digests, and whether there are more.

        Args:
            repository: the repository.
            subject: the digest that they refer to.
            artifact_type: only those of this type; None for all.
            after: only those after this one.
            limit: the size of the page in bytes, which its last descriptor may exceed.
        """
        found: list[Descriptor] = []
        left = limit
        last = _entry_name(after) if after is not None else ""
        for name in entries(self._layout.referrers(repository, subject)):
            digest = digest_in(name)
            if name <= last or digest is None or not self._is_unmarked(repository, digest):
                continue
            descriptor = self._descriptor(repository, subject, digest)
            if descriptor is None or artifact_type not in (None, descriptor.artifact_type):
                continue
            if left <= 0:
                return found, True
            found.append(descriptor)
            left -= _json_size(descriptor)
        return found, False

    def entries_of(self, repository: RepositoryName, manifest: Manifest) -> list[Path]:
        """Return the entries of a manifest: one if it has a subject, otherwise none."""
        try:
            subject = manifest.subject
        except Invalid:
            return self.entries_named(repository, manifest.digest)
        return [self._layout.referrer(repository, subject.digest, manifest.digest)] if subject is not None else []

    def entries_named(self, repository: RepositoryName, digest: Digest) -> list[Path]:
        """Return the entries of a manifest whose subject cannot be read."""
        directory = self._layout.repository(repository) / "_referrers"
        return [path for path in files_below(directory) if path.name == _entry_name(digest)]

    def remove_dangling(self, repository: RepositoryName) -> None:
        """Remove entries without a manifest, as an interrupted push or deletion leaves them."""
        for entry in list(files_below(self._layout.repository(repository) / "_referrers")):
            digest = digest_in(entry.name)
            if digest is not None and not self._layout.manifest(repository, digest).exists():
                entry.unlink(missing_ok=True)

    def _is_unmarked(self, repository: RepositoryName, digest: Digest) -> bool:
        try:
            found = self._layout.manifest(repository, digest).lstat()
        except FileNotFoundError:
            return False
        return not self._integrity.is_known_damaged(found) and (
            self._integrity.is_verified(found) or not is_marked(found)
        )

    def _descriptor(self, repository: RepositoryName, subject: Digest, digest: Digest) -> Descriptor | None:
        """Return the descriptor of a referrer; a damaged entry is restored from its manifest."""
        entry = self._layout.referrer(repository, subject, digest)
        try:
            descriptor = Descriptor.from_json(json.loads(read_file(entry, _MAX_ENTRY_BYTES)))
            if descriptor.digest == digest:
                return descriptor
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, TagferryError):
            pass
        damage = Damage("referrer", digest, repository)
        self._integrity.report(damage)
        try:
            manifest = self._read(repository, digest)
        except TagferryError:
            return None
        if manifest.subject is None or manifest.subject.digest != subject:
            return None
        descriptor = manifest.referrer_descriptor
        # Lists must not fail because the disk cannot be written.
        with contextlib.suppress(OSError):
            self._replace(entry, descriptor)
            self._integrity.record_repair(damage)
        return descriptor

    def _replace(self, entry: Path, descriptor: Descriptor) -> None:
        replace_file(entry, _content(descriptor), temporary=self._layout.temporary)


def _content(descriptor: Descriptor) -> bytes:
    return json.dumps(descriptor.to_json()).encode()


def _entry_name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.encoded}"


def _json_size(descriptor: Descriptor) -> int:
    """Return the approximate size of a descriptor as JSON."""
    return 300 + sum(len(key) + len(value) for key, value in descriptor.annotations.items())
