"""Manifests that are kept in memory, up to a number of bytes, and served while their files are unchanged."""

import os
from collections import OrderedDict
from contextlib import suppress
from threading import Lock

from tagferry import bounds
from tagferry.errors import Invalid
from tagferry.names import Digest
from tagferry.oci.model import Manifest
from tagferry.registry.storage.integrity import IntegrityChecker, Stamp

_ENTRY_BYTES = 1024
"""The memory of an entry and of a subject's descriptor, about."""


class KeptManifests:
    """The manifests of one registry, as stored. Their bytes were verified; their fields were not."""

    def __init__(self, integrity: IntegrityChecker) -> None:
        self._integrity = integrity
        self._lock = Lock()
        self._kept: OrderedDict[int, tuple[Stamp, Manifest]] = OrderedDict()
        self._bytes = 0

    def find(self, digest: Digest, found: os.stat_result) -> Manifest | None:
        """Return the manifest in a file, from the file's status; None if it is not kept, or the file has changed."""
        trusted = self._integrity.trusted_stamp(found)
        if trusted is None:
            return None
        with self._lock:
            stamp, manifest = self._kept.get(found.st_ino, (None, None))
            if manifest is None or manifest.digest != digest or stamp != trusted:
                return None
            self._kept.move_to_end(found.st_ino)
            return manifest

    def keep(self, found: os.stat_result, manifest: Manifest) -> None:
        """Keep a manifest with its subject; `found` is the status of its verified file."""
        if Digest.of(manifest.raw, manifest.digest.algorithm) != manifest.digest:
            # The file was verified earlier, and has changed since, below the file system.
            return
        kept = Manifest(raw=manifest.raw, media_type=manifest.media_type, digest=manifest.digest)
        with suppress(Invalid):
            # The document would take many times the memory of the bytes.
            kept.__dict__["subject"] = manifest.subject
        with self._lock:
            self._forget(self._kept.pop(found.st_ino, None))
            self._kept[found.st_ino] = Stamp.of(found), kept
            self._bytes += _size(kept)
            while self._bytes > bounds.KEPT_MANIFEST_BYTES:
                self._forget(self._kept.popitem(last=False)[1])

    def _forget(self, entry: tuple[Stamp, Manifest] | None) -> None:
        if entry is not None:
            self._bytes -= _size(entry[1])


def _size(manifest: Manifest) -> int:
    return manifest.size + _ENTRY_BYTES
