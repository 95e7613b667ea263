"""Manifests, tags and referrers on disk.

All of this blocks; it runs in the disk's threads, and what changes a repository runs under that repository's lock.
"""

import json
from collections.abc import Collection
from pathlib import Path

from tagferry import bounds
from tagferry.errors import NotFound, TooLarge
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.dates import date_of
from tagferry.oci.images import TagRecord, written_since
from tagferry.oci.model import Descriptor, Manifest
from tagferry.registry.blobs import BlobFiles
from tagferry.registry.errors import MissingReference
from tagferry.registry.files import entries, files_below, replace_file, sync_directory
from tagferry.registry.layout import Layout

_LONGEST_MEDIA_TYPE = 255


class ManifestFiles:
    """The manifests of one registry."""

    def __init__(self, layout: Layout, blobs: BlobFiles) -> None:
        self._layout = layout
        self._blobs = blobs

    def describe(self, repository: RepositoryName, reference: Reference) -> Descriptor | None:
        """What a reference points to, or None."""
        digest = self._resolve(repository, reference)
        if digest is None:
            return None
        path = self._layout.manifest(repository, digest)
        try:
            with path.open("rb") as file:
                media_type = file.readline(_LONGEST_MEDIA_TYPE + 1)
                size = path.stat().st_size - len(media_type)
        except FileNotFoundError:
            return None
        return Descriptor(media_type=media_type.decode().rstrip("\n"), digest=digest, size=size)

    def read(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """The manifest, verified; raises NotFound and Corrupt."""
        digest = self._resolve(repository, reference)
        try:
            if digest is None:
                raise FileNotFoundError
            content = self._layout.manifest(repository, digest).read_bytes()
        except FileNotFoundError:
            raise self._not_found(repository, reference) from None
        media_type, _, raw = content.partition(b"\n")
        return Manifest.parse(raw, media_type.decode(), digest=digest)

    def write(self, repository: RepositoryName, manifest: Manifest, tag: Tag | None) -> None:
        """Store a manifest and point a tag to it; raises MissingReference and TooLarge."""
        if manifest.size > bounds.MANIFEST_BYTES:
            raise TooLarge("manifest", f"must be at most {bounds.MANIFEST_BYTES} bytes long", manifest.size)
        self._require_content(repository, manifest)
        # A referrer's entry counts only once its manifest is there, so it is written first.
        if manifest.subject is not None:
            entry = self._layout.referrer(repository, manifest.subject.digest, manifest.digest)
            self._replace(entry, json.dumps(manifest.referrer_descriptor.to_json()).encode())
        content = manifest.media_type.encode() + b"\n" + manifest.raw
        path = self._layout.manifest(repository, manifest.digest)
        if not path.exists() or path.read_bytes() != content:
            self._replace(path, content)
        if tag is not None:
            self._replace(self._layout.tag(repository, tag), manifest.digest.encode())

    def delete(self, repository: RepositoryName, reference: Reference, seen: TagRecord | None = None) -> None:
        """Delete a tag, or a manifest with its tags and its referrer entry.

        Raises:
            NotFound: there is none.
            Conflict: the tag is not as it was seen.
        """
        if isinstance(reference, Tag):
            if seen is not None and self._record(repository, reference) not in (seen, None):
                raise written_since(repository, reference)
            self._delete_tag(repository, reference)
            return
        path = self._layout.manifest(repository, reference)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise self._not_found(repository, reference) from None
        # Tags go first: one that points to nothing is never to be seen.
        for record in self.tags(repository):
            if record.digest == reference:
                self._delete_tag(repository, record.tag)
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
        subject = _subject(content.partition(b"\n")[2])
        if subject is not None:
            self._layout.referrer(repository, subject, reference).unlink(missing_ok=True)

    def delete_all(self, repository: RepositoryName) -> None:
        """Delete every tag, manifest and referrer entry; raises NotFound where there is no such repository."""
        if not self._layout.holds_images(repository):
            raise NotFound("repository", repository)
        directory = self._layout.repository(repository)
        # Tags go first, and durably: one that points to nothing is never to be seen.
        for kind in ("_tags", "_manifests", "_referrers"):
            files = list(files_below(directory / kind))
            for path in files:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in files}:
                sync_directory(folder)

    def tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        """The tags in lexical order, or just those of `only` that exist; raises NotFound where all are asked for."""
        names = self.tag_names(repository) if only is None else sorted(only)
        return [record for name in names if (record := self._record(repository, name)) is not None]

    def tag_names(self, repository: RepositoryName) -> list[Tag]:
        """The tags' names in lexical order; raises NotFound."""
        names = entries(self._layout.tags(repository))
        if not names and not self._layout.holds_images(repository):
            raise NotFound("repository", repository)
        return [Tag(name) for name in names]

    def referrers(self, repository: RepositoryName, subject: Digest) -> list[Descriptor]:
        """The manifests whose subject is this digest."""
        directory = self._layout.referrers(repository, subject)
        found = []
        for name in entries(directory):
            try:
                descriptor = Descriptor.from_json(json.loads((directory / name).read_bytes()))
            except FileNotFoundError:
                continue
            if self._layout.manifest(repository, descriptor.digest).exists():
                found.append(descriptor)
        return found

    def referenced_blobs(self, repository: RepositoryName) -> set[Digest]:
        """Every blob that some manifest of the repository needs; manifests that an index lists are named along."""
        manifests = (self.read(repository, digest) for digest in self._layout.digests(repository, "_manifests"))
        return {one.digest for manifest in manifests for one in (*manifest.blobs, *manifest.listed)}

    def _require_content(self, repository: RepositoryName, manifest: Manifest) -> None:
        for blob in manifest.blobs:
            if not self._blobs.holds(repository, blob.digest) and not (blob.is_foreign and blob.urls):
                hint = f"push it to {repository} before the manifest"
                raise MissingReference("blob", blob.digest, hint)
        for child in manifest.children:
            is_blob = not child.is_known_manifest and self._blobs.holds(repository, child.digest)
            if not is_blob and not self._layout.manifest(repository, child.digest).exists():
                hint = f"push it to {repository} before the index"
                raise MissingReference("manifest", child.digest, hint)

    def _resolve(self, repository: RepositoryName, reference: Reference) -> Digest | None:
        if isinstance(reference, Digest):
            return reference
        try:
            return Digest(self._layout.tag(repository, reference).read_text())
        except FileNotFoundError:
            return None

    def _record(self, repository: RepositoryName, tag: Tag) -> TagRecord | None:
        path = self._layout.tag(repository, tag)
        try:
            with path.open() as file:
                digest = Digest(file.read())
                updated = date_of(path.stat().st_mtime)
        except FileNotFoundError:
            return None
        return TagRecord(tag=tag, digest=digest, updated=updated)

    def _delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        path = self._layout.tag(repository, tag)
        try:
            path.unlink()
        except FileNotFoundError:
            raise self._not_found(repository, tag) from None
        sync_directory(path.parent)

    def _not_found(self, repository: RepositoryName, reference: Reference) -> NotFound:
        if not self._layout.holds_images(repository):
            return NotFound("repository", repository)
        kind = "tag" if isinstance(reference, Tag) else "manifest"
        return NotFound(kind, f"{reference} of {repository}")

    def _replace(self, path: Path, content: bytes) -> None:
        replace_file(path, content, temporary=self._layout.temporary)


def _subject(raw: bytes) -> Digest | None:
    document = json.loads(raw)
    subject = document.get("subject")
    return Descriptor.from_json(subject).digest if subject is not None else None
